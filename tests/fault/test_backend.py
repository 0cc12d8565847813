"""Storage that stalls, fails, and loses what was not flushed, under the server of production (rnbd-faulty)."""
import errno
import os
import subprocess
import unittest

from bounds import BACKEND_STALL_S, POWER_CUTS, RECOVERY_STALL_S, SEED, SHORT_STALL_S, STORAGE_ROUNDS
from faults import BIN, BLOCKS, Daemon, Faults, Stamp, free_port, pause, run, wait_until
from proxy import Proxy

# A file system does the other requests of a file one at a time: one that is kept would keep them all.
PARALLEL = "--plain"
HOLD_S = 2
# No path is lost because the machine is slow.
PATIENT = 'fast_heartbeat_interval = "30s"\n'
DEPTH = 8  # of each volume's load
NAMES = ("disk0", "disk1")
# Past the page cache: what the server asks for is what the storage gets, and several requests at a time.
DIRECT = 'direct = "on"\nblock_size = "4K"\n'


class Backend(Faults):
    def setUp(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("needs root and /dev/fuse")
        if not (BIN / "rnbd-faulty").exists():
            raise unittest.SkipTest("rnbd-faulty was not built (it needs libfuse3-dev)")
        super().setUp()
        self.mount = self.volumes / "faulty"
        self.mount.mkdir()
        self.faulty = Daemon("rnbd-faulty", [BIN / "rnbd-faulty", self.mount, *NAMES, f"--size={BLOCKS * 4096}"],
                             self.dir / "faulty.log")
        self.daemons.append(self.faulty)  # the first: it ends last
        wait_until(lambda: (self.mount / "control").exists(), "rnbd-faulty to serve")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.mount)], capture_output=True)
        self.addCleanup(self.release)

    def storage(self, command):
        with open(self.mount / "control", "w") as control:
            control.write(command)

    def kept(self):
        return int((self.mount / "control").read_text())

    def all_lies_in_storage(self, load):
        """Nothing moves any more: what is not kept waits for what is."""
        before = load.operations(), self.kept()
        pause(0.05)
        return before == (load.operations(), self.kept()) and before[1] > 0

    def release(self):
        """Whatever failed: nobody waits for the storage for ever."""
        if self.faulty.alive():
            self.storage("go")

    def volumes_on(self, *proxies, **_):
        return [self.map_on(f"faulty/{name}", proxies) for name in NAMES]

    def volume(self, name, size):
        return self.volumes / name  # they are there, in their size

    def start(self, *options, paths=0):
        self.both(server_extra=DIRECT)
        self.paths = [Proxy(self.port, host=f"127.0.0.{2 + i}") for i in range(paths)]
        for path in self.paths:
            self.addCleanup(path.close)
        return Stamp(self, self.volumes_on(*self.paths), f"--seed={SEED}", f"--depth={DEPTH}", *options)

    # --- the checker itself --------------------------------------------------------------------------------
    def test_a_write_that_lands_once_more_is_caught(self):
        load = self.start()
        self.storage("remember")
        load.wait_for_more(500)
        self.storage("replay")
        self.assertIn("stale", load.finish(statuses=(1,))["violations"][0])

    def test_storage_that_loses_what_it_acknowledged_is_caught(self):
        load = self.start()
        for number in range(8):
            load.wait_for_more()
            self.storage(f"power-cut {number}")
        self.assertGreater(load.finish(statuses=(1,))["wrong"], 0)

    # --- stalls -------------------------------------------------------------------------------------------
    def test_storage_stalls_and_completes(self):
        load = self.start()
        load.wait_for_more()
        self.storage("stall")
        pause(BACKEND_STALL_S)
        self.storage("go")
        load.wait_for_more()
        summary = load.finish(note=f"{BACKEND_STALL_S:.0f} s")
        self.assertGreater(summary["longest_request_ms"] / 1000, BACKEND_STALL_S - 1)
        self.assert_stall(summary, BACKEND_STALL_S + RECOVERY_STALL_S)

    def test_a_volume_that_may_fail_does_not_wait_for_storage_that_hangs(self):
        """Its requests are given up, others of its session go on, and it is recovered when the storage is done with them."""
        self.both(server_extra=DIRECT + PATIENT, client_extra=PATIENT)
        super().volume("plain", BLOCKS * 4096)
        uri, other = self.map_on(f"faulty/{NAMES[0]}"), self.map_on("plain")
        self.rnbd("set", "rnbd0", f"hold={HOLD_S}s")
        ask = lambda at, request: subprocess.run(["nbdsh", "-u", at, "-c", request], capture_output=True, text=True,
                                                 timeout=60)  # the storage would keep it for ever
        self.storage("stall")
        for request in ("h.pwrite(bytes(4096), 0)", "h.pread(4096, 8192)"):
            refused = ask(uri, request)
            self.assertIn("nbd_pwrite" if "write" in request else "nbd_pread", refused.stderr)
            self.assertIn(os.strerror(errno.EIO), refused.stderr)
            self.assertEqual(ask(other, request).returncode, 0)
        failed, good = self.devices()
        self.assertEqual((failed["state"], good["state"]), ("failed", "open"))
        self.assertIn("does not answer", failed["error"])
        paths = self.rnbd_json("list", "paths")["sessions"][0]["paths"]
        self.assertEqual([p["reconnects"] for p in paths], [0])
        self.storage("go")
        self.rnbd("recover", "rnbd0")
        self.assertEqual(ask(uri, "h.pwrite(bytes(4096), 0)").returncode, 0)

    def stalled_while(self, load, break_it):
        """Writes lie in the storage while `break_it` happens, later ones would not; they are done at last, in no order."""
        for _ in range(STORAGE_ROUNDS):
            load.wait_for_more()
            self.storage("stall")
            wait_until(lambda: self.all_lies_in_storage(load), "requests to lie in the storage")
            self.storage("pass")
            break_it()
            pause(SHORT_STALL_S)
            self.storage("go")
        load.wait_for_more()
        return load.finish(note=f"{STORAGE_ROUNDS} times")

    def test_the_only_path_is_cut_while_writes_lie_in_the_storage(self):
        load = self.start(PARALLEL, paths=1)
        summary = self.stalled_while(load, lambda: self.paths[0].cut())
        self.assert_stall(summary, SHORT_STALL_S + RECOVERY_STALL_S)

    def test_one_of_two_paths_is_cut_while_writes_lie_in_the_storage(self):
        load = self.start(PARALLEL, paths=2)
        summary = self.stalled_while(load, lambda: self.paths[0].cut())
        self.assert_stall(summary, SHORT_STALL_S + RECOVERY_STALL_S)

    def test_the_server_is_killed_while_its_writes_lie_in_the_storage(self):
        """A dead server's requests still run; its successor waits for them."""
        load = self.start(PARALLEL, paths=1)

        def kill_and_start_anew():
            # Its port and its sockets stay taken while its requests run: the successor has others.
            self.kill_at_once(self.server)
            (self.dir / "server-admin.sock").unlink()
            self.port = free_port()
            self.paths[0].target = ("127.0.0.1", self.port)
            self.restart_server()

        self.assert_stall(self.stalled_while(load, kill_and_start_anew), SHORT_STALL_S + RECOVERY_STALL_S)

    def test_the_client_is_killed_while_its_writes_lie_in_the_storage(self):
        """Its successor serves nobody before the server is done with what the dead one had sent."""
        load = self.start(PARALLEL, "--reconnect")

        def kill_and_start_anew():
            self.client.kill()
            self.restart_client()

        self.assert_stall(self.stalled_while(load, kill_and_start_anew), SHORT_STALL_S + RECOVERY_STALL_S)

    def test_R3_a_write_waits_for_the_one_it_overlaps_and_for_no_other(self):
        self.both(server_extra=DIRECT)
        run("nbdsh", "-u", self.volumes_on()[0], "-c", f"""
def storage(command):
    with open("{self.mount}/control", "w") as control:
        control.write(command)
def kept():
    with open("{self.mount}/control") as control:
        return int(control.read())
storage("stall")
first = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"a" * 8192)), 0)
while kept() == 0:
    h.poll(10)
storage("pass")
h.pwrite(b"b" * 4096, 65536)
second = h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"c" * 4096)), 4096)
for _ in range(30):
    h.poll(10)
    assert not h.aio_command_completed(second)
storage("go")
done = set()
while len(done) < 2:
    h.poll(-1)
    done |= {{cookie for cookie in (first, second) if cookie not in done and h.aio_command_completed(cookie)}}
assert h.pread(8192, 0) == b"a" * 4096 + b"c" * 4096
""")

    # --- errors -------------------------------------------------------------------------------------------
    def writes_fail_with(self, number):
        load = self.start("--allow-errors")
        load.wait_for_more()
        self.storage(f"fail write {number}")
        load.wait_for_more()  # reads, while writes fail
        self.storage("heal")
        load.wait_for_more()
        summary = load.finish()
        self.assertGreater(summary["errors"], 0)
        self.assertIn(number, summary["error_numbers"])
        return summary

    def test_write_errors_reach_the_application_and_end_with_their_cause(self):
        self.writes_fail_with(errno.EIO)

    def test_a_full_storage_is_told_as_such(self):
        self.writes_fail_with(errno.ENOSPC)

    def test_read_errors_reach_the_application_and_break_nothing_else(self):
        load = self.start("--allow-errors")
        load.wait_for_more()
        self.storage(f"fail read {errno.EIO}")
        load.wait_for_more()  # writes, while reads fail
        self.storage("heal")
        load.wait_for_more()
        summary = load.finish()
        self.assertEqual(summary["error_numbers"], [errno.EIO])

    # --- what was promised --------------------------------------------------------------------------------
    def lose_power(self, load, seed):
        """The server and its storage die together; the client's volumes are mapped anew. What was promised is there."""
        self.kill_at_once(self.server)
        self.storage(f"power-cut {seed}")
        self.server.process.wait()
        load.finish(note="power cut")
        for device in self.devices():
            self.rnbd("unmap", device["name"], "--force")
        self.restart_server()
        return self.volumes_on()

    def stamp_state(self):
        return f"--state={self.dir / 'stamp.state'}"

    def verify(self, volumes):
        run(BIN / "rnbd-stamp", *volumes, f"--blocks={BLOCKS}", self.stamp_state(), "--verify-only", "--power-lost")

    def test_a_power_cut_takes_only_what_was_not_flushed(self):
        self.both(server_extra=DIRECT)
        volumes = self.volumes_on()
        for number in range(POWER_CUTS):
            load = Stamp(self, volumes, f"--seed={SEED + number}", self.stamp_state(), "--power-lost", "--abandon")
            load.wait_for_more(500)
            volumes = self.lose_power(load, SEED + number)
            self.verify(volumes)

    def test_R10_after_a_failed_flush_no_later_flush_promises_anything(self):
        self.both(server_extra=DIRECT)
        volumes = self.volumes_on()
        load = Stamp(self, volumes, f"--seed={SEED}", self.stamp_state(), "--abandon", "--allow-errors")
        load.wait_for_more()
        self.storage(f"fail flush {errno.EIO}")
        for volume in volumes:
            self.assertNotEqual(self.flush(volume), 0)
        self.storage("heal")
        load.wait_for_more()
        for volume in volumes:
            self.assertNotEqual(self.flush(volume), 0)
        self.verify(self.lose_power(load, SEED))

    def flush(self, uri):
        return run("nbdsh", "-u", uri, "-c", "h.flush()", check=False).returncode


if __name__ == "__main__":
    unittest.main()
