"""Volumes that grow under their users, and are taken away; paths and devices that get another chance."""
import json
import os

from harness import MIB, EndToEnd, need, need_block_devices, run, wait_until

MARK = b"the last block of the volume....".ljust(512, b".")


class Grown(EndToEnd):
    def start(self, frontend):
        self.start_server()
        self.start_client(frontend=frontend)
        self.file = self.volume("disk0", 16 * MIB)
        return self.map("disk0")

    def size(self):
        return self.devices()[0]["size"]

    def server_resize(self, *words, check=True):
        return self.rnbd("server", "resize", *words, socket=self.dir / "server-admin.sock", check=check)

    def grow(self, size):
        os.truncate(self.file, size)
        wait_until(lambda: self.size() == size, "the client to see the new size")

    def assert_last_block(self, size):
        with open(self.file, "rb") as f:
            f.seek(size - 512)
            self.assertEqual(f.read(), MARK)

    def test_nbd_clients_that_connect_find_the_new_size(self):
        need("nbdinfo", "nbdsh")
        uri = self.start("nbd")["nbd"]
        self.assertEqual(int(run("nbdinfo", "--size", uri).stdout), 16 * MIB)
        self.grow(48 * MIB)
        self.assertEqual(int(run("nbdinfo", "--size", uri).stdout), 48 * MIB)
        run("nbdsh", "-u", uri, "-c", f"h.pwrite({MARK!r}, {48 * MIB - 512}); h.flush()")
        self.assert_last_block(48 * MIB)

    def test_a_file_of_the_mount_grows_while_it_is_open(self):
        need_block_devices()
        path = self.start("fuse")["file"]
        fd = os.open(path, os.O_RDWR)
        try:
            self.assertEqual(os.fstat(fd).st_size, 16 * MIB)
            self.grow(32 * MIB)
            wait_until(lambda: os.fstat(fd).st_size == 32 * MIB, "the open file to grow")
            os.pwrite(fd, MARK, 32 * MIB - 512)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.assert_last_block(32 * MIB)

    def test_a_block_device_grows_while_it_is_open(self):
        need_block_devices()
        node = self.start("loop")["node"]
        fd = os.open(node, os.O_RDWR | os.O_SYNC)
        try:
            self.grow(32 * MIB)
            wait_until(lambda: int(run("blockdev", "--getsize64", node).stdout) == 32 * MIB, "the block device to grow")
            os.pwrite(fd, MARK, 32 * MIB - 512)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.assert_last_block(32 * MIB)

    def test_nobody_needs_to_wait_when_the_server_is_told(self):
        self.start("nbd")
        os.truncate(self.file, 64 * MIB)
        told = json.loads(self.server_resize("disk0", "-o", "json").stdout)  # what it looked at, not what it knew
        self.assertEqual([o["size"] for o in told["opens"]], [64 * MIB])
        wait_until(lambda: self.size() == 64 * MIB, "the client to see the new size")
        self.assertEqual(self.server_resize("nosuch", check=False).returncode, 3)
        self.assertEqual(self.server_resize("disk0", "1G", check=False).returncode, 2)

    def test_a_size_the_server_has_not_and_a_smaller_one_are_refused(self):
        self.start("nbd")
        more = self.rnbd("resize", "rnbd0", "1G", check=False)
        self.assertEqual(more.returncode, 5)
        self.assertIn(str(16 * MIB), more.stderr)
        self.assertIn(str(1024 * MIB), more.stderr)
        self.assertEqual(self.rnbd("resize", "rnbd0", "8M", check=False).returncode, 4)
        self.rnbd("resize", "rnbd0")
        self.assertEqual(self.size(), 16 * MIB)

    def test_a_volume_that_shrinks_keeps_its_size_here_and_both_ends_say_so_once(self):
        need("nbdsh")
        uri = self.start("nbd")["nbd"]
        os.truncate(self.file, 8 * MIB)
        wait_until(lambda: "shrunk" in self.client.text() and "shrank" in self.server.text(), "both logs to tell")
        self.assertEqual(self.size(), 16 * MIB)
        beyond = run("nbdsh", "-u", uri, "-c", f"h.pread(512, {12 * MIB})", check=False)
        self.assertNotEqual(beyond.returncode, 0)
        run("nbdsh", "-u", uri, "-c", f"h.pread(512, {8 * MIB - 512})")
        self.server_resize("disk0")
        self.assertEqual(self.client.text().count("shrunk"), 1)
        self.assertEqual(self.server.text().count("shrank"), 1)
        self.assertEqual(self.rnbd("resize", "rnbd0", check=False).returncode, 4)


class Taken(EndToEnd):
    def setUp(self):
        super().setUp()
        need("nbdsh")
        self.start_server()
        self.start_client()
        self.volume("disk0", 16 * MIB)
        self.uri = self.map("disk0")["nbd"]

    def on_server(self, *words, check=True):
        return self.rnbd("server", *words, socket=self.dir / "server-admin.sock", check=check)

    def io(self, check=True):
        return run("nbdsh", "-u", self.uri, "-c", "h.pwrite(b'x' * 4096, 0); assert h.pread(4096, 0) == b'x' * 4096",
                   check=check)

    def device(self):
        return self.devices()[0]

    def test_a_volume_closed_by_force_is_opened_again_by_itself(self):
        self.io()
        before = self.server_json("list")["opens"][0]
        self.assertTrue(before["device"].endswith("/volumes/disk0"), before)
        self.on_server("close", "disk0", "from", "e2e")

        def again():
            opens = self.server_json("list")["opens"]
            return opens and opens[0]["device_id"] != before["device_id"]

        wait_until(again, "the client to open it again")
        wait_until(lambda: self.device()["state"] == "open", "the device to be open")
        self.io()
        self.assertEqual(self.on_server("close", "nosuch", check=False).returncode, 3)
        self.assertEqual(self.on_server("close", "disk0", "other", check=False).returncode, 3)

    def test_a_path_taken_down_by_the_server_is_connected_again(self):
        def path():
            return self.rnbd_json("list", "sessions")["sessions"][0]["paths"][0]

        before = path()["reconnects"]
        self.on_server("disconnect", "e2e")
        wait_until(lambda: path()["reconnects"] == before + 1 and path()["state"] == "connected", "the path to be back")
        self.io()
        self.assertEqual(self.on_server("disconnect", "nosuch", check=False).returncode, 3)

    def test_counters_begin_anew_and_what_is_in_flight_does_not(self):
        self.io()
        self.assertGreater(self.device()["writes"], 0)
        self.rnbd("reset", "rnbd0")
        self.assertEqual(self.device()["writes"], 0)
        self.rnbd("reset", "e2e", "1", "rdma")
        path = self.rnbd_json("list", "sessions")["sessions"][0]["paths"][0]
        self.assertEqual((path["writes"], path["inflight"]), (0, 0))
        self.on_server("reset", "e2e")
        self.assertEqual(self.server_json("list")["sessions"][0]["paths"][0]["writes"], 0)
        self.assertEqual(self.rnbd("reset", "nosuch", check=False).returncode, 3)
        self.io()
        self.assertGreater(self.device()["writes"], 0)

    def test_a_failed_device_gets_another_chance(self):
        self.rnbd("set", "rnbd0", "hold=fail", "--force")
        self.assertEqual(self.device()["state"], "failed")
        self.assertNotEqual(self.io(check=False).returncode, 0)
        self.rnbd("recover", "rnbd0")
        self.assertEqual(self.device()["state"], "open")
        self.io()
        self.assertEqual(self.rnbd("recover", "rnbd0", check=False).returncode, 4)

    def test_a_closed_device_is_opened_at_the_administrators_word(self):
        self.assertEqual(self.rnbd("remap", "rnbd0", check=False).returncode, 4)  # it is open
        self.daemons[0].terminate()
        wait_until(lambda: self.device()["state"] == "closed", "the device to lose its server")
        refused = self.rnbd("remap", "rnbd0", check=False)
        self.assertEqual(refused.returncode, 6, refused.stderr)
        self.assertEqual(len(refused.stderr.strip().splitlines()), 1)
        self.daemons.pop(0)
        EndToEnd.start_server(self)
        self.rnbd("reconnect", "e2e", check=False)
        wait_until(lambda: self.device()["state"] == "open", "the device to be back")
        self.io()

    def test_a_flush_failure_is_nothing_to_forgive_where_there_was_none(self):
        self.assertEqual(self.on_server("recover", "disk0", check=False).returncode, 4)
        self.assertEqual(self.on_server("recover", "nosuch", check=False).returncode, 3)
        self.assertFalse(json.loads(self.on_server("-o", "json", "list").stdout)["opens"][0]["flush_failed"])
