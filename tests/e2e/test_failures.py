"""Daemons that die, hang and come back under load; nothing may be lost, and nothing may hang."""
import os
import signal
import subprocess
import time

from harness import MIB, EndToEnd, free_port, need, run, wait_until

FAST = 'heartbeat_interval = "200ms"\nheartbeat_missed_max = 3\n'


class Failures(EndToEnd):
    def both(self, client_extra="", frontend="nbd", server_extra=FAST):
        self.start_server(extra=server_extra)
        self.start_client(frontend=frontend, extra=FAST + 'reconnect_delay = "50ms"\nreconnect_delay_max = "500ms"\n' + client_extra)

    def fio_verify(self, uri, size="48m", extra=(), rate=("--rate_iops=3000",)):
        """It outlasts what happens to it by its rate, on a fast machine too."""
        return subprocess.Popen(
            ["fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randrw", "--bs=4k", "--iodepth=16",
             f"--size={size}", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256", "--randseed=3",
             *rate, *extra],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def finish(self, fio, seconds=180):
        try:
            output, _ = fio.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            fio.kill()
            output, _ = fio.communicate()
            self.fail(f"fio hung:\n{output[-3000:]}\n{self.client.text()[-3000:]}")
        self.assertEqual(fio.returncode, 0, output[-4000:] + self.client.text()[-3000:])

    def writes_done(self):
        return self.devices()[0]["writes"]

    def wait_for_io(self, fio, more=200):
        start = self.writes_done()
        wait_until(lambda: self.writes_done() > start + more or fio.poll() is not None, "I/O to flow")

    def test_a_volume_of_a_session_whose_server_is_away_is_refused_at_once(self):
        self.both()
        self.volume("disk0", MIB)
        self.volume("disk1", MIB)
        self.map("disk0")
        self.server.kill()
        wait_until(lambda: self.rnbd_json("list")["sessions"][0]["state"] == "disconnected", "the client to notice")
        words = ("map", "sessname=e2e", "device_path=disk1")
        started = time.monotonic()
        refused = self.rnbd(*words, check=False)
        self.assertLess(time.monotonic() - started, 10)  # map_timeout is 30 s
        self.assertEqual(refused.returncode, 6, refused.stderr)
        self.assertIn("has no path that is up", refused.stderr)
        self.assertEqual([d["volume"] for d in self.devices()], ["disk0"])
        self.start_server(extra=FAST)
        self.rnbd(*words, "--wait")
        self.assertEqual([d["volume"] for d in self.devices()], ["disk0", "disk1"])

    def test_a_volume_that_does_not_come_in_time_leaves_nothing_behind(self):
        self.volume("disk0", MIB)
        self.volume("disk1", MIB)
        slow = 'fast_heartbeat_interval = "10s"\n'  # the session outlives the wait
        self.start_server(extra=slow)
        self.start_client(extra=slow)
        self.map("disk0")
        self.assertEqual(self.client.terminate(), 0)
        self.start_client(extra=slow + 'map_timeout = "1s"\n')  # it maps the volume again, however long that takes
        wait_until(lambda: [d["state"] for d in self.devices()] == ["open"], "the volume to be mapped again")
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            late = self.rnbd("map", "sessname=e2e", "device_path=disk1", check=False)
            self.assertEqual(late.returncode, 6, late.stderr)
            wait_until(lambda: [d["volume"] for d in self.devices()] == ["disk0"], "the late one to be forgotten")
        finally:
            os.kill(self.server.pid, signal.SIGCONT)
        wait_until(lambda: self.rnbd("map", "sessname=e2e", "device_path=disk1", check=False).returncode == 0, "it to be mapped")
        self.assertEqual([d["volume"] for d in self.devices()], ["disk0", "disk1"])

    def test_server_killed_and_restarted_under_verify_load(self):
        need("fio")
        self.both()
        self.volume("disk0", 64 * MIB)
        fio = self.fio_verify(self.map("disk0")["nbd"])
        for _ in range(3):
            self.wait_for_io(fio)
            self.server.kill()
            wait_until(lambda: self.devices()[0]["state"] != "open", "the client to notice")
            self.start_server(extra=FAST)
            wait_until(lambda: self.devices()[0]["state"] == "open", "the volume to be back")
        self.finish(fio)

    def test_server_frozen_longer_than_the_heartbeat_under_verify_load(self):
        need("fio")
        self.both()
        self.volume("disk0", 64 * MIB)
        fio = self.fio_verify(self.map("disk0")["nbd"])
        self.wait_for_io(fio)
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            wait_until(lambda: self.devices()[0]["state"] != "open", "the client to notice")
        finally:
            os.kill(self.server.pid, signal.SIGCONT)
        wait_until(lambda: self.devices()[0]["state"] == "open", "the volume to be back", 60)
        self.finish(fio)

    def test_client_killed_in_mid_io_leaves_the_server_clean(self):
        need("fio")
        self.both()
        self.volume("disk0", 64 * MIB)
        fio = self.fio_verify(self.map("disk0")["nbd"], rate=())  # fio with a rate may wait for ever on a dead socket
        self.wait_for_io(fio)
        self.client.kill()
        fio.communicate(timeout=60)
        self.assertNotEqual(fio.returncode, 0)  # its disk is gone
        wait_until(lambda: not self.server_json("list")["sessions"], "the server to drop the session")
        (self.dir / "client-admin.sock").unlink(missing_ok=True)
        self.start_client(extra=FAST)
        self.map("disk0")  # rw: the dead client's lock is gone

    def test_hold_timeout_fails_the_whole_device_and_says_so(self):
        need("nbdsh")
        self.both(client_extra='hold_timeout = "1s"\n')
        self.volume("disk0", 16 * MIB)
        uri = self.map("disk0")["nbd"]
        self.server.kill()
        started = time.monotonic()
        failed = run("nbdsh", "-u", uri, "-c", "h.pwrite(bytes(4096), 0)", check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertLess(time.monotonic() - started, 15)
        self.assertEqual(self.devices()[0]["state"], "failed")

    def test_unmap_returns_while_the_server_is_dead(self):
        self.both()
        self.volume("disk0", 16 * MIB)
        self.map("disk0")
        self.server.kill()
        started = time.monotonic()
        self.rnbd("unmap", "rnbd0", "--force", timeout=60)
        self.assertLess(time.monotonic() - started, 15)
        self.assertEqual(self.devices(), [])

    def test_sigterm_closes_volumes_on_the_server(self):
        self.both()
        self.volume("disk0", 16 * MIB)
        self.map("disk0")
        self.assertEqual(len(self.server_json("list")["opens"]), 1)
        self.assertEqual(self.client.terminate(), 0)
        wait_until(lambda: not self.server_json("list")["opens"], "the volume to be closed")
        self.assertEqual(self.server.terminate(), 0)

    def test_the_client_ends_on_sigterm_while_the_server_is_frozen(self):
        self.both()
        self.volume("disk0", 16 * MIB)
        self.map("disk0")
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            self.assertEqual(self.client.terminate(), 0)
        finally:
            os.kill(self.server.pid, signal.SIGCONT)

    def test_a_second_server_cannot_serve_a_volume_for_writing(self):
        self.both()
        self.volume("disk0", 16 * MIB)
        self.map("disk0")
        first_port, first, self.port = self.port, self.server, free_port()
        (self.dir / "server-admin.sock").rename(self.dir / "first-admin.sock")
        self.start_server()
        refused = self.rnbd(*self.map_words("disk0", session="other"), check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertRegex(refused.stderr, "(?i)busy|in use|locked")
        self.assertTrue(first.alive())
        self.port = first_port


if __name__ == "__main__":
    import unittest
    unittest.main()
