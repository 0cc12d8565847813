"""A machine for one example: what it finds in its files, and what its commands print and return.

Run by machine() inside namespaces of its own, with the example as JSON on standard input.
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

BIN = os.environ["RNBD_BIN"]
NAMESPACES = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
MARK = "\x01"
VOLUMES = ("vol0", "vol1", "db")


def machine(example, timeout=600):
    """Runs {'setup': […], 'files': {path: text}, 'commands': […]}; a list of (status, output), one per command."""
    words = NAMESPACES if os.geteuid() == 0 else [NAMESPACES[0], "--map-root-user", *NAMESPACES[1:]]
    result = subprocess.run([*words, "--", sys.executable, __file__], input=json.dumps(example), capture_output=True,
                            text=True, timeout=timeout)
    if result.returncode != 0:
        raise AssertionError(f"the example's machine failed: {result.stdout[-3000:]}{result.stderr[-3000:]}")
    return [tuple(pair) for pair in json.loads(result.stdout.splitlines()[-1])]


def sh(line):
    subprocess.run(["bash", "-ec", line], check=True, stdout=sys.stderr)


def overlay(directory, options="bind"):
    """An empty directory over this one that shows what was in it, by links."""
    sh(f"mkdir -p /run/real{directory} && mount --rbind {directory} /run/real{directory} && "
       f"mount -o remount,{options} /run/real{directory} && mount -t tmpfs -o mode=755 none {directory} && "
       f"ln -s /run/real{directory}/* {directory}/")


def prepare():
    sh("mount --make-rprivate / && mount -t tmpfs none /run && ip link set lo up && hostname web1")
    for address in ("10.0.0.1/24", "10.0.1.1/24", "fd00::1/64"):
        sh(f"ip address add {address} dev lo nodad 2>/dev/null || ip address add {address} dev lo")
    # Whatever is sent to 10.0.9.9 is lost, and nobody says so.
    sh("ip link add here type veth peer name there && ip link set here up && ip link set there up && "
       "ip address add 10.0.9.1/24 dev here && ip neighbour add 10.0.9.9 lladdr 02:00:00:00:00:09 dev here nud permanent")
    overlay("/etc", "bind,ro")
    overlay("/dev")
    overlay("/var/lib", "bind,ro")
    # Nodes of loop devices that are made while the example runs.
    sh("for i in $(seq 0 63); do [ -e /dev/loop$i ] || ln -sf /run/real/dev/loop$i /dev/loop$i; done")
    sh("rm -rf /etc/rnbd /etc/hosts /var/lib/rnbd && mkdir -p /etc/rnbd && mount -t tmpfs none /srv && mkdir -p /srv/rnbd /srv/backup")
    Path("/etc/hosts").write_text("127.0.0.1 localhost web1\n10.0.0.1 storage1\n")
    for name in VOLUMES:
        with open(f"/srv/rnbd/{name}", "wb") as f:
            f.write(name.encode() * (1 << 18))
            f.truncate(64 << 20)
    os.chdir("/srv")


# For checks: succeeds as soon as the command does.
EVENTUALLY = r"""eventually() {
  local until=$((SECONDS + 120))
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || { "$@"; return; }; sleep 0.02; done
}
"""

# Block devices outlive the namespaces: daemons end as they should. The client first, while there is a server.
END = r"""
mountpoint -q /mnt && umount /mnt
for daemon in rnbd-client rnbd-server; do
  for pid in $(pidof $daemon); do kill -TERM $pid; timeout 60 tail --pid=$pid -f /dev/null || exit 1; done
done
cat /run/*.log 2>/dev/null || :
"""


class Shell:
    def __init__(self):
        environment = {"PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "USER": "root"}
        environment.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        self.bash = subprocess.Popen(["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, env=environment)
        self.bash.stdin.write(EVENTUALLY)

    def run(self, command):
        """Status and output. What is started behind '&' is waited for until it answers."""
        daemon = next((d for d in ("rnbd-server", "rnbd-client") if command.startswith(d) and command.endswith("&")), None)
        if daemon:
            socket = re.search(r"--socket=\S+", command)
            ping = f"rnbd {daemon.removeprefix('rnbd-')} ping -q {socket.group() if socket else ''}"
            command = f"{command[:-1]} >>/run/{daemon}.log 2>&1 & eventually {ping}"
        elif command.endswith("&"):
            command = command[:-1] + " >/run/background.log 2>&1 &"
        self.bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '{MARK}%s\\n' $?\n")
        self.bash.stdin.flush()
        output = ""
        while line := self.bash.stdout.readline():
            text, mark, status = line.partition(MARK)
            output += text
            if mark:
                return int(status), output
        return 255, output + "the shell ended"


def main():
    example = json.load(sys.stdin)
    prepare()
    for path, text in example["files"].items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).unlink(missing_ok=True)
        Path(path).write_text(text)
    shell = Shell()
    for command in example["setup"]:
        status, output = shell.run(command)
        if status != 0:
            log = "".join(Path(f).read_text() for f in map(str, Path("/run").glob("*.log")))
            sys.exit(f"preparing: '{command}' ended with {status}: {output}\n{log[-2000:]}")
    results = [shell.run(command) for command in example["commands"]]
    status, output = shell.run(END)
    if status != 0 or re.search("AddressSanitizer|runtime error:|assertion failed", output):
        sys.exit(f"the daemons did not end well ({status}): {output[-4000:]}")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
