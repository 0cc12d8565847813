"""What every end-to-end test starts from: real daemons in a temporary folder, real clients, and checks.

Nothing here sleeps for luck: waits poll a condition and fail with what was waited for.
"""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

BIN = Path(os.environ["RNBD_BIN"]) if "RNBD_BIN" in os.environ else Path("build/release/bin").resolve()
MIB = 1 << 20
# The system's own tools before any other: nbdsh needs the Python that Debian's bindings are for.
os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin:" + os.environ.get("PATH", "")


def wait_until(condition, what, seconds=60):
    """Polls until condition() is true; returns its value. A machine that stood still is asked once more."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline
        value = condition()
        if value:
            return value
        if late:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.01)


def free_port():
    """Below those that connections get: a daemon that is killed and started again finds it free still."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("", port))  # on every address: tests listen on several
            except OSError:
                continue
            return port


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(MIB):
            digest.update(block)
    return digest.hexdigest()


def random_file(path, size, seed=1):
    generator = random.Random(seed)
    with open(path, "wb") as f:
        for start in range(0, size, MIB):
            f.write(generator.randbytes(min(MIB, size - start)))
    return path


def run(*argv, check=True, timeout=120, **keywords):
    """Runs a program; on failure the assertion carries its output."""
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout, **keywords)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(str(a) for a in argv)} exited with {result.returncode}\n"
                             f"{result.stdout[-4000:]}{result.stderr[-4000:]}")
    return result


def need(*tools):
    """Skips, saying why, when a program these tests drive is missing."""
    for tool in tools:
        if not shutil.which(tool):
            raise unittest.SkipTest(f"{tool} is not installed")


def need_block_devices():
    if os.geteuid() != 0:
        raise unittest.SkipTest("loop devices need root")
    if not os.path.exists("/dev/fuse"):
        raise unittest.SkipTest("no /dev/fuse on this machine")
    if not os.path.exists("/dev/loop-control"):
        raise unittest.SkipTest("no /dev/loop-control on this machine")


class Daemon:
    def __init__(self, name, argv, log_path):
        self.name = name
        self.log_path = Path(log_path)
        self.log = open(log_path, "ab")
        self.process = subprocess.Popen([str(a) for a in argv], stdout=self.log, stderr=subprocess.STDOUT)
        self.pid = self.process.pid

    def text(self):
        return self.log_path.read_text(errors="replace")

    def alive(self):
        return self.process.poll() is None

    def terminate(self, seconds=60):
        """SIGTERM, which must end it cleanly with status 0."""
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end within {seconds} s of SIGTERM:\n{self.text()[-4000:]}")
        self.log.close()
        return status

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu_seconds(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
        return total / 1e9

    def context_switches(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            status = Path(f"/proc/{self.pid}/task/{task}/status").read_text()
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M).group(1))
        return total


class EndToEnd(unittest.TestCase):
    """One temporary folder, and the daemons a test starts; all are gone when it ends."""

    transport = "tcp"

    def setUp(self):
        self.prefixes = {}  # program: words before it, as "ip netns exec NAME"
        self.dir = Path(tempfile.mkdtemp(prefix="rnbd-e2e-"))
        os.chdir(self.dir)  # where tools may drop their own files
        self.volumes = self.dir / "volumes"
        self.volumes.mkdir()
        self.port = free_port()
        self.daemons = []
        self.server = None
        self.client = None
        self.addCleanup(self._clean)

    def _clean(self):
        problems = []
        for daemon in reversed(self.daemons):
            if daemon.alive():
                try:
                    status = daemon.terminate()
                    if status != 0:
                        problems.append(f"{daemon.name} ended with status {status}:\n{daemon.text()[-6000:]}")
                except AssertionError as error:
                    problems.append(str(error))
            elif re.search("AddressSanitizer|ThreadSanitizer|runtime error:|LeakSanitizer|assertion failed", daemon.text()):
                problems.append(f"{daemon.name}:\n{daemon.text()[-6000:]}")
        os.chdir("/")
        shutil.rmtree(self.dir, ignore_errors=True)
        if problems:
            self.fail("\n".join(problems))

    # --- daemons ---------------------------------------------------------------------------------------
    def volume(self, name, size):
        path = self.volumes / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as f:
            f.truncate(size)
        return path

    def start_server(self, extra="", exports="", listen='["ip:127.0.0.1"]'):
        """Starts rnbd-server over self.volumes; `extra` are more lines of [server]."""
        config = self.dir / "server.toml"
        listen = (f'listen = []\nunix_listen = "{self.dir}/rnbd.sock"\n' if self.transport == "unix"
                  else f'listen = {listen}\n')
        config.write_text(f'[server]\nport_nr = {self.port}\n{listen}dev_search_path = "{self.volumes}"\n'
                          f'admin_socket = "{self.dir}/server-admin.sock"\n{extra}\n{exports}')
        self.server = self._start("rnbd-server", config, self.dir / "server-admin.sock")
        return self.server

    def start_client(self, frontend="nbd", extra="", name="client"):
        config = self.dir / f"{name}.toml"
        config.write_text(f'[client]\nfrontend = "{frontend}"\nadmin_socket = "{self.dir}/{name}-admin.sock"\n'
                          f'nbd_socket = "{self.dir}/{name}-nbd.sock"\nfuse_mountpoint = "{self.dir}/{name}-volumes"\n'
                          f'devices_dir = "{self.dir}/{name}-dev"\n{extra}\n')
        (self.dir / f"{name}-dev").mkdir(exist_ok=True)
        client = self._start("rnbd-client", config, self.dir / f"{name}-admin.sock", name)
        if name == "client":
            self.client = client
        return client

    def _start(self, program, config, socket_path, name=None):
        daemon = Daemon(name or program, [*self.prefixes.get(program, []), BIN / program, "--config", config],
                        self.dir / f"{name or program}.log")
        self.daemons.append(daemon)

        def ready():
            if not daemon.alive():
                raise AssertionError(f"{program} did not start (status {daemon.process.returncode}):\n{daemon.text()}")
            return self.rnbd("ping", socket=socket_path, check=False).returncode == 0

        wait_until(ready, f"{program} to answer")
        return daemon

    # --- the command line ------------------------------------------------------------------------------
    def rnbd(self, *words, check=True, socket=None, client="client", timeout=120):
        return run(BIN / "rnbd", f"--socket={socket or self.dir / f'{client}-admin.sock'}", *words, check=check,
                   timeout=timeout)

    def rnbd_json(self, *words, **keywords):
        return json.loads(self.rnbd("-o", "json", *words, **keywords).stdout)

    def server_json(self, *words):
        return self.rnbd_json("server", *words, socket=self.dir / "server-admin.sock")

    def path(self):
        return f"unix:{self.dir}/rnbd.sock" if self.transport == "unix" else "ip:127.0.0.1"

    def map_words(self, volume, session="e2e", mode=None):
        words = ["map", f"sessname={session}", f"dest_port={self.port}", f"path={self.path()}", f"device_path={volume}"]
        return words + ([f"access_mode={mode}"] if mode else [])

    def map(self, volume, session="e2e", mode=None, client="client"):
        """Maps with the kernel's words; the answer's device as a dict."""
        return self.rnbd_json(*self.map_words(volume, session, mode), client=client)["devices"][0]

    def unmap(self, name, *words, client="client"):
        self.rnbd("unmap", name, *words, client=client)

    def devices(self, client="client"):
        return self.rnbd_json("client", "list", client=client)["devices"]
