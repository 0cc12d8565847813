"""NBD clients we did not write, on the NBD socket of our client: flags, limits, data both ways."""
import json
import os
import subprocess
import unittest

from harness import MIB, EndToEnd, need, random_file, run, sha256, wait_until


class NbdClients(EndToEnd):
    def setUp(self):
        super().setUp()
        self.start_server()
        self.start_client()

    def mapped(self, name="disk0", size=64 * MIB, mode=None):
        self.volume(name, size)
        return self.map(name, mode=mode)["nbd"]

    def test_nbdinfo_shows_size_flags_and_block_sizes(self):
        need("nbdinfo")
        info = json.loads(run("nbdinfo", "--json", self.mapped()).stdout)
        export = info["exports"][0]
        self.assertEqual(info["protocol"], "newstyle-fixed")
        self.assertEqual(export["export-size"], 64 * MIB)
        self.assertEqual(export["block_size_minimum"], 512)
        self.assertGreaterEqual(export["block_size_maximum"], MIB)
        for flag in ("can_flush", "can_fua", "can_trim", "can_zero", "can_multi_conn"):
            self.assertTrue(export[flag], flag)
        self.assertFalse(export["is_read_only"])

    def test_nbdinfo_lists_every_mapped_volume(self):
        need("nbdinfo")
        self.mapped("disk0")
        uri = self.mapped("disk1")
        listed = json.loads(run("nbdinfo", "--list", "--json", uri).stdout)
        self.assertEqual(len(listed["exports"]), 2)

    def test_read_only_mapping_is_read_only_to_its_clients(self):
        need("nbdinfo", "nbdsh")
        uri = self.mapped(mode="ro")
        self.assertEqual(run("nbdinfo", "--is", "read-only", uri, check=False).returncode, 0)
        refused = run("nbdsh", "-u", uri, "-c", "h.set_strict_mode(0)", "-c", "h.pwrite(b'x'*512, 0)", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertRegex(refused.stderr, "EPERM|EROFS|Operation not permitted|Read-only")

    def test_nbdcopy_both_ways_keeps_every_byte(self):
        need("nbdcopy")
        uri = self.mapped()
        source = random_file(self.dir / "source", 64 * MIB)
        run("nbdcopy", source, uri)
        run("nbdcopy", uri, self.dir / "back")
        self.assertEqual(sha256(self.dir / "back"), sha256(source))
        self.assertEqual(sha256(self.volumes / "disk0"), sha256(source))

    def test_nbdcopy_between_two_volumes(self):
        need("nbdcopy")
        one, two = self.mapped("disk0"), self.mapped("disk1")
        random_file(self.volumes / "disk0", 64 * MIB)
        run("nbdcopy", one, two)
        self.assertEqual(sha256(self.volumes / "disk1"), sha256(self.volumes / "disk0"))

    def test_nbdsh_every_command_does_what_it_says(self):
        need("nbdsh")
        script = """
import errno
assert h.get_size() == 64 << 20
assert h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero() and h.can_multi_conn()
assert not h.is_read_only()
assert h.get_protocol() == 'newstyle-fixed' and h.get_structured_replies_negotiated()
data = bytes(range(256)) * 16
h.pwrite(data, 8192)
assert h.pread(4096, 8192) == data
h.pwrite(data, 65536, nbd.CMD_FLAG_FUA)
h.flush()
h.zero(4096, 8192)
assert h.pread(4096, 8192) == bytes(4096)
h.zero(4096, 65536, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
assert h.pread(4096, 65536) == bytes(4096)
h.pwrite(data, 8192)
h.trim(4096, 8192)
assert h.pread(4096, 8192) == bytes(4096)
assert h.pread(512, h.get_size() - 512) == bytes(512)
h.set_strict_mode(0)
for bad, wanted in ((lambda: h.pread(512, h.get_size()), ('EINVAL', 'EIO')),
                    (lambda: h.pwrite(bytes(512), h.get_size()), ('EINVAL', 'ENOSPC', 'EIO')),
                    (lambda: h.pread(100, 7), ('EINVAL',))):
    try:
        bad()
    except nbd.Error as error:
        assert error.errno in wanted, error.errno
    else:
        raise AssertionError('an impossible request succeeded')
assert h.pread(512, 0) == bytes(512)
"""
        run("nbdsh", "-u", self.mapped(), "-c", script)

    def test_several_connections_see_each_others_writes(self):
        need("nbdsh")
        script = """
others = [nbd.NBD() for _ in range(4)]
for other in others:
    other.connect_uri(URI)
for i, other in enumerate(others):
    other.pwrite(bytes([i + 1]) * 4096, i * 4096)
for i in range(4):
    assert h.pread(4096, i * 4096) == bytes([i + 1]) * 4096
h.flush()
for other in others:
    other.shutdown()
"""
        uri = self.mapped()
        run("nbdsh", "-u", uri, "-c", script.replace("URI", repr(uri)))

    def test_unknown_export_is_refused_by_name(self):
        need("nbdinfo")
        uri = self.mapped()
        refused = run("nbdinfo", uri.replace("nbd+unix:///", "nbd+unix:///nosuch", 1) if "///?" in uri
                      else uri.replace("?", "-nosuch?", 1), check=False)
        self.assertNotEqual(refused.returncode, 0)

    def test_qemu_img_convert_and_compare(self):
        need("qemu-img")
        uri = self.mapped()
        source = random_file(self.dir / "source", 64 * MIB)
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, uri)
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, uri)
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", uri, self.dir / "out.qcow2")
        run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", self.dir / "out.qcow2", uri)

    def test_qemu_io_write_read_verify_patterns(self):
        need("qemu-io")
        uri = self.mapped()
        commands = ["write -P 0xa5 0 1M", "read -P 0xa5 0 1M", "write -P 0x5a 512k 4k", "read -P 0x5a 512k 4k",
                    "write -z 64k 64k", "read -P 0 64k 64k", "discard 128k 64k", "write -f -P 0x11 1M 512",
                    "read -P 0x11 1M 512", "aio_write -P 0x22 2M 3M", "aio_flush", "read -P 0x22 2M 3M", "flush"]
        result = run("qemu-io", "-f", "raw", *(x for c in commands for x in ("-c", c)), uri)
        self.assertNotIn("failed", result.stdout)

    def test_fio_random_verify_of_all_block_sizes(self):
        need("fio")
        uri = self.mapped(size=32 * MIB)
        run("fio", "--name=verify", "--ioengine=nbd", f"--uri={uri}", "--rw=randrw", "--bsrange=512-1m",
            "--bs_unaligned=0", "--blockalign=512", "--iodepth=16", "--size=32m", "--verify=crc32c",
            "--verify_fatal=1", "--verify_backlog=64", "--randseed=7", "--serialize_overlap=1")

    def test_discard_frees_and_zeroes_on_the_servers_file(self):
        need("nbdsh")
        uri = self.mapped()
        path = self.volumes / "disk0"
        run("nbdsh", "-u", uri, "-c", "h.pwrite(b'x' * (8 << 20), 0); h.flush()")
        full = os.stat(path).st_blocks
        run("nbdsh", "-u", uri, "-c", "h.trim(4 << 20, 0); h.flush()")
        self.assertLess(os.stat(path).st_blocks, full - 4000)
        with open(path, "rb") as f:
            self.assertEqual(f.read(4 * MIB), bytes(4 * MIB))
            self.assertEqual(f.read(1), b"x")

    def test_write_zeroes_zeroes_and_no_hole_keeps_the_blocks(self):
        need("nbdsh")
        uri = self.mapped()
        path = self.volumes / "disk0"
        run("nbdsh", "-u", uri, "-c", "h.pwrite(b'x' * (8 << 20), 0); h.flush()")
        full = os.stat(path).st_blocks
        run("nbdsh", "-u", uri, "-c", "h.zero(2 << 20, 0, nbd.CMD_FLAG_NO_HOLE); h.flush()")
        self.assertEqual(os.stat(path).st_blocks, full)
        run("nbdsh", "-u", uri, "-c", "h.zero(2 << 20, 2 << 20); h.flush()")
        with open(path, "rb") as f:
            self.assertEqual(f.read(4 * MIB), bytes(4 * MIB))
            self.assertEqual(f.read(1), b"x")


class NbdClientsOverUnix(EndToEnd):
    transport = "unix"

    def test_nbdcopy_both_ways_keeps_every_byte(self):
        need("nbdcopy")
        self.start_server()
        self.start_client()
        self.volume("disk0", 64 * MIB)
        uri = self.map("disk0")["nbd"]
        source = random_file(self.dir / "source", 64 * MIB)
        run("nbdcopy", source, uri)
        run("nbdcopy", uri, self.dir / "back")
        self.assertEqual(sha256(self.dir / "back"), sha256(source))


class LargeBlocks(EndToEnd):
    def test_4096_byte_blocks_reach_the_nbd_client(self):
        need("nbdinfo", "nbdcopy")
        self.start_server(extra="block_size = 4096")
        self.start_client()
        self.volume("disk0", 16 * MIB)
        uri = self.map("disk0")["nbd"]
        info = json.loads(run("nbdinfo", "--json", uri).stdout)
        self.assertEqual(info["exports"][0]["block_size_minimum"], 4096)
        source = random_file(self.dir / "source", 16 * MIB)
        run("nbdcopy", source, uri)
        self.assertEqual(sha256(self.volumes / "disk0"), sha256(source))


class FlushReachesTheDisk(EndToEnd):
    def test_flush_and_fua_reach_a_backend_that_keeps_a_log(self):
        """The server's file is itself a file of nbdfuse on nbdkit, whose log filter records what arrives."""
        need("nbdkit", "nbdfuse", "nbdsh", "fusermount3")
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("needs root and /dev/fuse")
        log, socket, mount = self.dir / "nbdkit.log", self.dir / "kit.sock", self.volumes / "kit"
        mount.touch()
        ready = self.dir / "nbdkit.pid"  # written when it takes connections
        kit = subprocess.Popen(["nbdkit", "-f", "-P", str(ready), "-U", str(socket), "--filter=log", "memory", "16M", f"logfile={log}"])
        wait_until(ready.exists, "nbdkit")
        try:
            fuse = subprocess.Popen(["nbdfuse", str(mount), "--unix", str(socket)])
            try:
                wait_until(lambda: mount.stat().st_size == 16 * MIB, "nbdfuse to mount")
                self.start_server(extra='direct = "off"')
                self.start_client()
                uri = self.map("kit")["nbd"]

                def flushes():
                    return log.read_text().count(" Flush ")

                before = flushes()
                run("nbdsh", "-u", uri, "-c", "h.pwrite(b'y' * 4096, 0); h.flush()")
                after_flush = flushes()
                self.assertGreater(after_flush, before, "a flush did not reach the backend")
                run("nbdsh", "-u", uri, "-c", "h.pwrite(b'z' * 4096, 4096, nbd.CMD_FLAG_FUA)")
                self.assertGreater(flushes(), after_flush, "a FUA write was not made durable")
                self.rnbd("unmap", "kit")
                self.assertEqual(self.server.terminate(), 0)
            finally:
                run("fusermount3", "-u", mount, check=False)
                fuse.wait(60)
        finally:
            kit.terminate()
            kit.wait(60)


if __name__ == "__main__":
    unittest.main()
