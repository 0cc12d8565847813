"""What every test with faults starts from: the daemons of tests/e2e, and the checker on their volumes."""
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from bounds import BACKEND_STALL_S, FREEZE_S  # noqa: E402
from harness import BIN, Daemon, EndToEnd, free_port, run, wait_until  # noqa: E402,F401

BLOCKS = 512  # of each volume: few, so that every one is written often
HEARTBEAT = 'heartbeat_interval = "100ms"\nheartbeat_missed_max = 3\n'
RECONNECT = 'reconnect_delay = "20ms"\nreconnect_delay_max = "200ms"\n'
HANG_S = 60 + max(FREEZE_S[1], BACKEND_STALL_S)

# What each test measured: printed as one table by tests/fault/run.
results = []


class Stamp:
    """rnbd-stamp on some devices, until it is told to end."""

    def __init__(self, test, devices, *options, seconds=0):
        self.test = test
        self.progress = Path(tempfile.mktemp(dir=test.dir, prefix="progress-"))
        self.argv = [str(BIN / "rnbd-stamp"), *map(str, devices), f"--seconds={seconds}", f"--hang={HANG_S}",
                     f"--blocks={BLOCKS}", f"--progress={self.progress}", *options]
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.kill)
        wait_until(lambda: self.operations() > 0 or self.process.poll() is not None, "the load to start")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def operations(self):
        try:
            return int(self.progress.read_text() or 0)
        except (FileNotFoundError, ValueError):
            return 0

    def wait_for_more(self, count=200, seconds=60):
        """I/O flows: `count` more requests succeeded."""
        goal = self.operations() + count

        def flowing():
            if self.process.poll() is not None:
                self.test.fail("the load ended by itself: " + self._outcome()[1])
            return self.operations() >= goal

        wait_until(flowing, f"{count} more requests to succeed", seconds)

    def _outcome(self):
        try:
            output, errors = self.process.communicate(timeout=HANG_S + 60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, errors = self.process.communicate()
            self.test.fail(f"{' '.join(self.argv)} did not end:\n{output[-2000:]}{errors[-2000:]}")
        return self.process.returncode, output + errors[-4000:]

    def finish(self, statuses=(0,), note=""):
        """Ends the load, has the whole read back, and returns the summary of a run without fault."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status, text = self._outcome()
        if status not in statuses:
            logs = "".join(f"\n--- {d.name}\n{d.text()[-3000:]}" for d in self.test.daemons)
            self.test.fail(f"{' '.join(self.argv)} ended with {status}:\n{text[:6000]}{logs}")
        summary = json.loads(text.splitlines()[0])
        if 0 in statuses:
            results.append({"test": self.test._testMethodName, "note": note, "summary": summary})
        return summary


def pause(seconds):
    """The length of a fault; never a way to wait for something that can be asked for."""
    time.sleep(seconds)


def pause_of(summary):
    return max(summary["longest_gap_ms"], summary["longest_request_ms"]) / 1000


class Faults(EndToEnd):
    """Real daemons whose volumes are under the checker's eyes; every test ends with finish() of its load."""

    def setUp(self):
        if not (BIN / "rnbd-stamp").exists():
            raise unittest.SkipTest("rnbd-stamp was not built (it needs libnbd-dev)")
        super().setUp()

    # --- daemons ------------------------------------------------------------------------------------------
    def both(self, server_extra="", client_extra="", frontend="nbd"):
        self.server_extra = HEARTBEAT + server_extra
        self.client_extra = HEARTBEAT + RECONNECT + client_extra
        self.frontend = frontend
        self.start_server(extra=self.server_extra)
        self.start_client(frontend=frontend, extra=self.client_extra)

    def restart_server(self):
        self._forget_dead()
        self.start_server(extra=self.server_extra)

    def restart_client(self):
        self._forget_dead()
        self.start_client(frontend=self.frontend, extra=self.client_extra)

    def _forget_dead(self):
        """Dead daemons leave the list, one check of their log later: a long run has thousands."""
        for daemon in [d for d in self.daemons if not d.alive()]:
            self.assertNotRegex(daemon.text(), "AddressSanitizer|runtime error:|LeakSanitizer|assertion failed")
            self.daemons.remove(daemon)

    def kill_at_once(self, daemon):
        """Does not wait for its end: requests that lie in its storage may hold it up."""
        os.kill(daemon.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def stopped(self, daemon):
        """Stands still for as long as the block takes."""
        os.kill(daemon.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if daemon.alive():
                os.kill(daemon.pid, signal.SIGCONT)

    def frozen(self, daemon, seconds):
        with self.stopped(daemon):
            pause(seconds)

    # --- volumes ------------------------------------------------------------------------------------------
    def map_on(self, name, proxies=(), session="e2e"):
        """Maps a volume over one path per proxy, straight without any; its NBD URI."""
        self.volume(name, BLOCKS * 4096)
        if not proxies:
            return self.map(name, session)["nbd"]
        words = ["map", f"sessname={session}"]
        for proxy in proxies:
            words += [f"dest_port={proxy.port}", f"path=ip:{proxy.host}"]
        return self.rnbd_json(*words, f"device_path={name}")["devices"][0]["nbd"]

    def volumes_on(self, *proxies, count=2):
        """Volumes side by side, so that one's bytes on another show."""
        return [self.map_on(f"disk{i}", proxies) for i in range(count)]

    def is_open(self):
        devices = self.devices()
        return devices and all(d["state"] == "open" for d in devices)

    def assert_stall(self, summary, seconds):
        """Neither a single request nor all of them together paused for longer."""
        self.assertLess(pause_of(summary), seconds, summary)
