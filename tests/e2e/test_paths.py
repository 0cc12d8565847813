"""Paths and policies at run time: added, removed, taken down, brought back, by command, by the network, by a successor."""
import json
import os
import signal
import socket
import subprocess
import time
import unittest

from harness import MIB, EndToEnd, free_port, need, run, wait_until

FAST = 'fast_heartbeat_interval = "100ms"\nfast_heartbeat_missed_max = 3\n'
# Nothing is lost but what the test takes away, however slow the machine is.
PATIENT = 'fast_heartbeat_interval = "30s"\n'
# What may be slower on a slow machine: the commands that break and look count too.
SCALE = float(os.environ.get("RNBD_FAULT_SCALE", "1"))
QUICK = 'reconnect_delay = "50ms"\nreconnect_delay_max = "500ms"\n'


class Live(EndToEnd):
    def both(self, client_extra="", paths=("127.0.0.1", "127.0.0.2"), heartbeat=PATIENT):
        self.start_server(extra=heartbeat)
        self.client_extra = heartbeat + QUICK + client_extra
        self.start_client(extra=self.client_extra)
        self.volume("disk0", 64 * MIB)
        words = [f"path={self.address(p)}" for p in paths]
        self.uri = self.rnbd_json("map", "sessname=s1", f"dest_port={self.port}", *words,
                                  "device_path=disk0")["devices"][0]["nbd"]
        wait_until(lambda: [p["state"] for p in self.session()["paths"]] == ["connected"] * len(paths), "every path")

    def start_server(self, extra=""):
        """Listens on every loopback address: each is a path."""
        return super().start_server(extra=extra, listen='["ip:0.0.0.0"]')

    @staticmethod
    def address(text):
        return text if ":" in text else f"ip:{text}"

    def session(self, client="client"):
        return self.rnbd_json("list", "sessions", client=client)["sessions"][0]

    def paths(self):
        """{destination: state} of the session."""
        return {p["destination"]: p["state"] for p in self.session()["paths"]}

    def device(self):
        return self.devices()[0]

    def refuse(self, status, words, *texts):
        result = self.rnbd(*words, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
        for text in texts:
            self.assertIn(text, result.stderr)

    def io(self, blocks=4):
        """Writes and reads back; the value is what nbdsh ended with."""
        return run("nbdsh", "-u", self.uri, "-c",
                   f"for i in range({blocks}): h.pwrite(bytes([i]) * 4096, i * 4096)\n"
                   f"for i in range({blocks}): assert h.pread(4096, i * 4096) == bytes([i]) * 4096",
                   check=False, timeout=60).returncode

    def load(self, seconds=600):
        need("fio")
        self.fio = subprocess.Popen(
            ["fio", "--name=verify", "--ioengine=nbd", f"--uri={self.uri}", "--rw=randrw", "--bs=4k", "--iodepth=16",
             "--size=48m", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256", "--randseed=3",
             "--rate_iops=3000"],  # it outlasts what happens to it on a fast machine too
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(self.fio.kill)
        self.flow()

    def flow(self, more=100):
        start = self.device()["writes"]
        wait_until(lambda: self.device()["writes"] > start + more or self.fio.poll() is not None, "I/O to flow")

    def finish(self):
        output, _ = self.fio.communicate(timeout=180)
        self.assertEqual(self.fio.returncode, 0, output[-4000:] + self.client.text()[-3000:])


class Commands(Live):
    def setUp(self):
        super().setUp()
        need("nbdsh")

    def test_a_path_tells_what_guards_its_bytes(self):
        self.both(client_extra='crc = "on"\n', paths=("127.0.0.1",))
        server = self.server_json("list", "paths")["sessions"][0]["paths"][0]
        self.assertEqual((self.session()["paths"][0]["digest"], server["digest"]), ("crc32c", "crc32c"))
        self.client.terminate()
        self.start_client(extra=PATIENT)  # it maps the volume again; "auto" leaves it out on loopback
        wait_until(lambda: [s["paths"][0]["digest"] for s in self.rnbd_json("list", "sessions")["sessions"]] == ["none"],
                   "the volume to be mapped again")
        self.server.kill()
        wait_until(lambda: self.session()["paths"][0]["digest"] == "", "the path to be lost")

    def test_paths_come_and_go_under_verify_load(self):
        self.both()
        self.load()
        said = self.rnbd("add", "path", "s1", "ip:127.0.0.3").stdout
        self.assertIn("ip:127.0.0.3 of session s1 is connected", said)
        self.assertEqual(set(self.paths().values()), {"connected"})
        self.flow()
        self.rnbd("remove", "path", "s1", "ip:127.0.0.1")
        self.flow()
        self.rnbd("disconnect", "s1", "127.0.0.2")
        self.assertEqual(self.paths(), {"ip:127.0.0.2": "closed", "ip:127.0.0.3": "connected"})
        self.flow()
        self.rnbd("reconnect", "s1", "127.0.0.2")
        self.assertEqual(set(self.paths().values()), {"connected"})
        self.rnbd("delete", "path", "s1", "2")
        self.assertEqual(self.paths(), {"ip:127.0.0.2": "connected"})
        self.finish()
        wait_until(lambda: len(self.server_json("list")["sessions"][0]["paths"]) == 1, "the server to have one path")

    def test_a_path_is_named_by_name_destination_or_number_and_ambiguity_is_told(self):
        self.both()
        name = self.session()["paths"][1]["name"]
        self.assertIn("@", name)
        for word in (name, name.replace("@", ","), "ip:127.0.0.2", "127.0.0.2"):
            self.rnbd("disconnect", word)
            self.assertEqual(self.paths()["ip:127.0.0.2"], "closed", word)
            self.rnbd("path", "reconnect", word)
            self.assertEqual(self.paths()["ip:127.0.0.2"], "connected", word)
        self.rnbd("disconnect", "s1", "2")
        self.assertEqual(self.paths()["ip:127.0.0.2"], "closed")
        self.rnbd("map", "sessname=s2", f"dest_port={self.port}", "path=ip:127.0.0.2", "device_path=disk0",
                  "access_mode=ro")
        self.refuse(2, ["disconnect", "127.0.0.2"], "2 sessions", "s1", "s2", "name the session")
        self.refuse(3, ["disconnect", "2"], "number needs its session")
        self.refuse(3, ["disconnect", "s1", "9"], "no path '9'", "1: ", "127.0.0.1", "2: ")
        self.refuse(3, ["disconnect", "s3", "1"], "no session 's3'")
        self.refuse(3, ["reconnect", "10.0.0.1"], "10.0.0.1", "rnbd list paths")

    def test_what_cannot_be_added_or_removed_is_refused_with_the_cause(self):
        self.both(paths=("127.0.0.1",), client_extra='connect_timeout = "1s"\n')
        self.refuse(5, ["remove", "path", "s1", "1"], "last path", "add another one")
        self.refuse(2, ["remove", "path", "s1"], "which path", "1: ")
        self.refuse(6, ["add", "path", "s1", "ip:127.0.0.1", f"dest_port={free_port()}"], "refused")
        self.refuse(3, ["add", "path", "nosuch", "ip:127.0.0.1"], "no session 'nosuch'")
        self.refuse(2, ["add", "path", "s1"], "which path", "rnbd add path SESSION")
        self.refuse(2, ["add", "path", "s1", "gid:x"], "gid:")
        self.refuse(2, ["add", "path", "s1", "127.0.0.1", "127.0.0.2"], "one path at a time")
        self.assertIn("add the path ip:127.0.0.2 to s1", self.rnbd("add", "path", "s1", "127.0.0.2", "-n").stdout)
        self.assertEqual(len(self.paths()), 1)
        self.assertTrue(self.rnbd_json("add", "path", "s1", "127.0.0.1")["already"])
        self.rnbd("add", "path", "s1", "host:localhost", "dest_port=" + str(self.port), check=False)
        self.refuse(2, ["server", "add", "path", "s1", "127.0.0.2"], "client's")

    def test_another_server_behind_an_address_is_not_joined(self):
        self.both(paths=("127.0.0.1",))
        self.port, first = free_port(), self.port
        (self.dir / "server-admin.sock").rename(self.dir / "first-admin.sock")
        self.start_server(extra=PATIENT)
        self.refuse(5, ["add", "path", "s1", "ip:127.0.0.2", f"dest_port={self.port}"], "another server")
        self.port = first
        self.assertEqual(self.io(), 0)

    def test_a_session_that_is_disconnected_holds_its_io_and_goes_on_when_reconnected(self):
        self.both()
        self.load()
        self.rnbd("disconnect", "s1")
        self.assertEqual(set(self.paths().values()), {"closed"})
        # Beyond what the load writes, which may be over by now.
        write = subprocess.Popen(["nbdsh", "-u", self.uri, "-c", f"h.pwrite(bytes(4096), {60 * MIB})"])
        self.addCleanup(write.kill)
        wait_until(lambda: self.device()["held"] > 0, "requests to be held")
        self.assertGreater(self.device()["waiting_us"], 0)
        self.assertIsNone(write.poll())
        self.rnbd("reconnect", "s1")
        self.assertEqual(write.wait(60), 0)
        self.flow()
        self.assertEqual(self.device()["waiting_us"], 0)
        self.finish()

    def test_hold_is_changed_while_requests_are_stuck(self):
        self.both()
        self.assertEqual(self.device()["hold_us"], 0)
        self.refuse(4, ["set", "rnbd0", "hold=fail"], "its server is there", "--force")
        self.server.kill()
        wait_until(lambda: self.device()["state"] == "closed", "the client to notice")
        stuck = subprocess.Popen(["nbdsh", "-u", self.uri, "-c", "h.pwrite(bytes(4096), 0)"], stderr=subprocess.PIPE)
        self.addCleanup(stuck.kill)
        wait_until(lambda: self.device()["held"] > 0, "the write to be held")
        self.rnbd("set", "rnbd0", "hold=1h")
        self.assertEqual(self.device()["hold_us"], 3600 * 10**6)
        self.assertEqual(self.device()["state"], "closed")
        self.assertIn("1h", self.rnbd("show", "rnbd0").stdout)
        self.rnbd("set", "rnbd0", "hold=forever")
        self.assertIn("forever", self.rnbd("show", "rnbd0").stdout)
        self.rnbd("set", "rnbd0", "hold=1ms")  # it waits for longer already
        wait_until(lambda: self.device()["state"] == "failed", "the device to fail")
        stuck.communicate(timeout=20)
        self.assertNotEqual(stuck.returncode, 0)

    def test_hold_fail_ends_the_waiting_at_once(self):
        self.both()
        self.server.kill()
        wait_until(lambda: self.device()["state"] == "closed", "the client to notice")
        stuck = subprocess.Popen(["nbdsh", "-u", self.uri, "-c", "h.pwrite(bytes(4096), 0)"], stderr=subprocess.PIPE)
        self.addCleanup(stuck.kill)
        wait_until(lambda: self.device()["held"] > 0, "the write to be held")
        self.rnbd("set", "rnbd0", "hold=fail")
        self.assertEqual(self.device()["state"], "failed")
        stuck.communicate(timeout=20)
        self.assertNotEqual(stuck.returncode, 0)

    def test_policy_and_attempts_are_set_live_and_mistakes_are_told(self):
        self.both()
        self.load()
        for policy in ("round-robin", "min-latency", "min-inflight"):
            self.rnbd("set", "s1", f"policy={policy}", "max_reconnect_attempts=7")
            self.assertEqual((self.session()["policy"], self.session()["max_reconnect_attempts"]), (policy, 7))
            self.flow()
        self.refuse(2, ["set", "s1", "policy=min-latenzy"], "did you mean 'min-latency'")
        self.refuse(2, ["set", "s1", "max_reconnect_attempts=-2", "policy=round-robin"], "0 to 9999")
        self.assertEqual(self.session()["policy"], "min-inflight")  # all or none
        self.refuse(2, ["set", "s1", "hold=1s"], "is a session")
        self.refuse(2, ["set", "rnbd0", "policy=round-robin"], "is a device", "'s1'")
        self.refuse(2, ["set", "rnbd0", "hold=0"], "forever")
        self.refuse(2, ["set", "rnbd0", "hodl=1s"], "did you mean 'hold'")
        self.refuse(2, ["set", "rnbd0"], "hold=forever|fail|TIME")
        self.refuse(3, ["set", "rnbd7", "hold=1s"], "rnbd7")
        self.finish()

    def test_immediate_failover_is_shown_as_unsafe(self):
        self.both(client_extra='failover = "immediate"\n')
        self.assertEqual(self.session()["failover"], "immediate")
        for words in (["list"], ["show"], ["show", "s1"], ["list", "sessions"]):
            self.assertRegex(self.rnbd(*words).stdout, "WARNING.*s1|UNSAFE")
        self.assertIn("unsafe", self.client.text())


class Successor(Live):
    def test_the_successor_takes_over_exactly_the_paths_there_were_and_what_was_set(self):
        need("nbdsh")
        self.both()
        self.rnbd("add", "path", "s1", "ip:127.0.0.3")
        self.rnbd("remove", "path", "s1", "ip:127.0.0.1")
        self.rnbd("set", "s1", "policy=min-latency", "max_reconnect_attempts=9")
        self.rnbd("set", "rnbd0", "hold=5m")
        self.assertEqual(self.io(), 0)
        self.client.kill()
        self.start_client(extra=self.client_extra)
        wait_until(lambda: self.devices() and self.device()["state"] == "open", "the volume to be back")
        wait_until(lambda: self.paths() == {"ip:127.0.0.2": "connected", "ip:127.0.0.3": "connected"}, "both paths")
        self.assertEqual((self.session()["policy"], self.session()["max_reconnect_attempts"]), ("min-latency", 9))
        self.assertEqual(self.device()["hold_us"], 300 * 10**6)
        self.uri = self.device()["nbd"]
        self.assertEqual(self.io(), 0)


class Stuck(Live):
    def test_unmap_by_force_returns_though_the_server_is_frozen_and_a_request_is_stuck(self):
        need("nbdsh")
        self.both(heartbeat=FAST)
        os.kill(self.server.pid, signal.SIGSTOP)
        try:
            stuck = subprocess.Popen(["nbdsh", "-u", self.uri, "-c", "h.pwrite(bytes(4096), 0)"],
                                     stderr=subprocess.PIPE)
            self.addCleanup(stuck.kill)
            wait_until(lambda: self.device()["inflight"] > 0, "the write to be stuck")
            self.refuse(4, ["unmap", "rnbd0"], "rnbd0")
            started = time.monotonic()
            self.rnbd("unmap", "rnbd0", "--force", timeout=60)
            self.assertLess(time.monotonic() - started, 20, self.client.text())
            self.assertEqual(self.devices(), [])
            stuck.communicate(timeout=20)
            self.assertNotEqual(stuck.returncode, 0)
        finally:
            os.kill(self.server.pid, signal.SIGCONT)

    def test_unmap_while_busy_names_the_holders(self):
        need("nbdsh")
        self.both()
        holder = subprocess.Popen(["nbdsh", "-u", self.uri, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        self.addCleanup(lambda: (holder.kill(), holder.communicate()))
        wait_until(lambda: self.device()["users"] > 0, "the holder to be there")
        self.refuse(4, ["unmap", "rnbd0"], "in use", "NBD client")
        holder.communicate(b"")
        wait_until(lambda: self.device()["users"] == 0, "the holder to be gone")
        self.rnbd("unmap", "rnbd0")


class Links(Live):
    """Two veth pairs between two network namespaces of our own."""

    def setUp(self):
        if os.geteuid() != 0:
            raise unittest.SkipTest("network namespaces need root")
        need("ip", "fio")
        super().setUp()
        self.here, self.there = (f"rnbd-{os.getpid()}-{side}" for side in ("c", "s"))
        for name in (self.here, self.there):
            made = run("ip", "netns", "add", name, check=False)
            if made.returncode != 0:
                raise unittest.SkipTest(f"no network namespaces here: {made.stderr.strip()}")
            self.addCleanup(subprocess.run, ["ip", "netns", "del", name], capture_output=True)
        for number in (1, 2):
            run("ip", "link", "add", f"c{number}", "netns", self.here, "type", "veth", "peer", "name", f"s{number}",
                "netns", self.there)
            for side, name, host in (("c", self.here, 1), ("s", self.there, 2)):
                run("ip", "-n", name, "addr", "add", f"10.77.{number}.{host}/24", "dev", f"{side}{number}")
                run("ip", "-n", name, "link", "set", f"{side}{number}", "up")
        self.prefixes = {"rnbd-server": ["ip", "netns", "exec", self.there],
                         "rnbd-client": ["ip", "netns", "exec", self.here]}

    def start_two(self):
        # Heartbeats that would notice nothing within this test: only the link event does.
        self.start_server(extra='fast_heartbeat_interval = "30s"\n')
        self.start_client(extra='fast_heartbeat_interval = "30s"\n' + QUICK)
        self.volume("disk0", 64 * MIB)
        self.uri = self.rnbd_json("map", "sessname=s1", f"dest_port={self.port}", "path=ip:10.77.1.2",
                                  "path=ip:10.77.2.2", "device_path=disk0")["devices"][0]["nbd"]
        self.load()

    def ask(self):
        """paths() without the time a command takes to start."""
        with socket.socket(socket.AF_UNIX) as admin, admin.makefile("rw") as stream:
            admin.connect(str(self.dir / "client-admin.sock"))
            stream.write('{"version":1,"command":"list"}\n')
            stream.flush()
            return {p["destination"]: p["state"] for p in json.loads(stream.readline())["sessions"][0]["paths"]}

    def lose(self, *breaking):
        """How long until the path over the first link is lost, with I/O going on over the other."""
        started = time.monotonic()
        run(*breaking)
        wait_until(lambda: self.ask()["ip:10.77.1.2"] != "connected", "the path to be lost")
        taken = time.monotonic() - started
        self.assertEqual(self.paths()["ip:10.77.2.2"], "connected")
        self.flow()
        return taken

    def lose_and_mend(self, bound, breaking, mending):
        """It may take `bound` seconds; a machine that is busy elsewhere gets another try, for no heartbeat would help."""
        taken = []
        for _ in range(5):
            taken.append(self.lose(*breaking))
            run(*mending)
            self.back()
            if taken[-1] < bound * SCALE:
                return
        self.fail(f"the path was lost after {taken} s, never within {bound * SCALE} s")

    def back(self):
        wait_until(lambda: set(self.paths().values()) == {"connected"}, "the path to be back")
        self.flow()

    def test_a_link_that_goes_down_loses_its_path_at_once_and_it_comes_back_by_itself(self):
        self.start_two()
        here, there = (["ip", "-n", name, "link", "set"] for name in (self.here, self.there))
        self.lose_and_mend(0.2, [*here, "c1", "down"], [*here, "c1", "up"])
        # Down at the other end: no carrier here, of which the kernel may tell a second later.
        self.lose_and_mend(1.2, [*there, "s1", "down"], [*there, "s1", "up"])
        self.finish()

    def test_an_address_that_is_removed_loses_its_path_and_brings_it_back(self):
        self.start_two()
        addr, words = ["ip", "-n", self.here, "addr"], ["10.77.1.1/24", "dev", "c1"]
        self.lose_and_mend(0.2, [*addr, "del", *words], [*addr, "add", *words])
        self.finish()


if __name__ == "__main__":
    unittest.main()
