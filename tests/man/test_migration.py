"""The commands and files of docs/migration.md: each is run as it is written, or told with the reason why it cannot be here."""
import re
import shutil
import unittest
from pathlib import Path

import test_examples
from sandbox import machine

PAGE = Path(__file__).resolve().parent.parent.parent / "docs/migration.md"
PROGRAMS = ("rnbd", "rnbd-server", "rnbd-client", "systemctl", "modprobe", "cmake", "ulimit", "grep", "for", "echo")

MODULES = "needs the kernel's modules: tests/vm/test_interop_*.sh load and remove them"
SYSTEMD = "needs systemd as process 1: tests/vm/test_boot.sh does it in a guest"
NOT_RUN = {
    "cmake --install": "tests/packaging/run installs",
    "ulimit -l unlimited": "changes no more than its shell; the units' LimitMEMLOCK is what counts",
    "modprobe ublk_drv": "this kernel has no ublk: the lab's has (tests/vm/test_ublk*.sh)",
    "modprobe -r rnbd_server rtrs_server": MODULES,
    "modprobe -r rnbd_client rtrs_client": MODULES,
    "echo normal > /sys/block/rnbdN/rnbd/unmap_device": MODULES,
    "systemctl enable --now rnbd-server": SYSTEMD,
    "systemctl disable --now rnbd-server": SYSTEMD,
    "systemctl enable --now rnbd-client rnbd-map": SYSTEMD,
    "systemctl disable --now rnbd-client rnbd-map": SYSTEMD,
    "grep . /sys/module/rnbd_server/parameters/* /sys/module/rtrs_server/parameters/*": MODULES,
}


def commands():
    """{command: line} of all that is a command, in text and in blocks for a shell; without remarks behind '#'."""
    found = {}
    block = None
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if match := re.match(r"\s*```(\w*)$", line):
            block = match[1] if block is None else None
        elif block == "sh":
            found.setdefault(re.sub(r"\s+#.*", "", line.strip()), number)
        elif block is None:
            for words in re.findall(r"`([^`]+)`", line):
                if " " in words and words.split()[0] in PROGRAMS:
                    found.setdefault(words, number)
    return found


def block_of(kind):
    blocks = re.findall(rf"^ *```{kind}\n(.*?)^ *```$", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == 1, f"{PAGE.name} has {len(blocks)} blocks of {kind}"
    return blocks[0]


def on_ours(command):
    """As the page says of scripts: our tree in the place of the kernel's."""
    return command.replace("/sys/", "/run/rnbd/sysfs/")


class Migration(unittest.TestCase):
    ran = set()

    def setUp(self):
        if not shutil.which("unshare"):
            self.skipTest("unshare is not installed")

    def follow(self, steps, **example):
        """Steps: (as written, what is typed, statuses that are right, what is printed among other things)."""
        results = machine({"files": {}, "setup": [], "commands": [step[1] for step in steps]} | example)
        told = "\n".join(f"$ {step[1]}\n{o[-1500:]}[{s}]" for step, (s, o) in zip(steps, results))
        for (written, _, statuses, wanted), (status, output) in zip(steps, results):
            if written:
                self.assertIn(written, commands(), f"{PAGE.name} does not have it (any more)")
                Migration.ran.add(written)
            self.assertIn(status, statuses, f"'{written}'\n{told}")
            self.assertTrue(re.search(wanted, output), f"'{written}' should print {wanted}\n{told}")

    def test_a_server(self):
        self.follow([
            ("rnbd-server --print-config", "rnbd-server --print-config", (0,), r"sess_queue_depth = 512"),
            ("rnbd-server --print-config >/dev/null", "rnbd-server --print-config >/dev/null", (0,), r"^$"),
            ("", "rnbd-server &", (0,), ""),
            ("", "rnbd-client --frontend=nbd &", (0,), ""),
            ("rnbd map sessname=… path=… device_path=…",
             "rnbd map sessname=blya path=ip:10.0.0.1 device_path=/srv/rnbd/vol0", (0,), "rnbd0"),
            ("rnbd server list", "rnbd server list", (0,), "/srv/rnbd/vol0"),
            ("rnbd server list sessions", "rnbd server list sessions", (0,), "blya"),
            ("rnbd list sessions csv", "rnbd list sessions csv", (0,), "blya"),
            ("rnbd resize rnbd0", "truncate -s 80M /srv/rnbd/vol0 && rnbd resize rnbd0", (0,), ""),
            ("", "eventually sh -c 'rnbd list devices size B noheaders | grep 83886080'", (0,), ""),
            ("rnbd server disconnect", "rnbd server disconnect blya", (0,), ""),
            ("", "eventually sh -c 'rnbd server list | grep vol0'", (0,), ""),
            ("", "eventually rnbd server close /srv/rnbd/vol0", (0,), ""),  # the one listed may have been the old one
            ("", "eventually sh -c 'rnbd server list | grep vol0'", (0,), ""),  # opened anew by itself
        ], files={"/etc/rnbd/rnbd.toml": block_of("toml")})

    def test_a_client(self):
        block = block_of("sh").splitlines()
        devices, sessions = (next(re.sub(r"\s+#.*", "", x.strip()) for x in block if word in x)
                             for word in ("/sys/block", "/sys/class/rtrs-client"))
        self.follow([
            ("rnbd doctor ADDRESS…", "rnbd doctor 10.50.100.66", (0, 1, 7), "10.50.100.66"),
            ("rnbd diff", "rnbd diff", (1,), "ram0: would map /dev/ram0 of session blya"),
            ("rnbd apply", "rnbd apply", (0,), "ram0: .* it is rnbd0"),
            ("", "rnbd diff", (0,), "nothing to do"),
            ("", "rnbd show rnbd0 -o json", (0,), '"hold_us": ?300000000'),
            (devices, on_ours(devices), (0,), r"/rnbd: blya\n/dev/ram0\nrw\n"),
            (sessions, on_ours(sessions), (0,), r"(?s)mpath_policy:.*10\.50\.101\.66"),
            ("rnbd unmap", "rnbd unmap rnbd0", (0,), "unmapped"),
        ], files={"/etc/rnbd/rnbdtab": block_of("text")}, setup=[
            "ip address add 10.50.100.66/24 dev lo && ip address add 10.50.101.66/24 dev lo",
            "mkdir -p /srv/rnbd/dev && truncate -s 16M /srv/rnbd/dev/ram0",
            "rnbd-server --socket=/run/storage1/server.sock /srv/rnbd &",
            "rnbd-client --frontend=nbd &",
        ])

    @classmethod
    def tearDownClass(cls):
        test_examples.Examples.ran += len(cls.ran)
        test_examples.Examples.not_run += [(f"docs/{PAGE.name}", line, f"{command}: {NOT_RUN[command]}")
                             for command, line in commands().items() if command in NOT_RUN]

    def test_z_no_command_is_left_out(self):
        if not Migration.ran:
            self.skipTest("the others did not run")
        def ran(command):  # 'rnbd map' is the beginning of one that did
            return any((words + " ").startswith(command + " ") for words in Migration.ran)
        self.assertEqual({c for c in commands() if not ran(c)} - set(NOT_RUN), set())
        self.assertEqual(set(NOT_RUN) - set(commands()), set(), "has reasons for what the page does not have")


if __name__ == "__main__":
    unittest.main()
