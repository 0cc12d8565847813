"""A mapped volume as a real block device (FUSE and a loop device) and as a FUSE file."""
import os
import stat
import subprocess
import unittest
from pathlib import Path

from harness import MIB, EndToEnd, need, need_block_devices, random_file, run, sha256, wait_until


class BlockDevice(EndToEnd):
    def setUp(self):
        need_block_devices()
        super().setUp()
        self.start_server()
        self.start_client(frontend="loop")

    def mapped(self, name="disk0", size=256 * MIB):
        self.volume(name, size)
        return self.map(name)

    def test_node_is_a_block_device_of_the_right_size_with_its_links(self):
        device = self.mapped(size=64 * MIB)
        node = device["node"]
        self.assertTrue(stat.S_ISBLK(os.stat(node).st_mode), node)
        self.assertEqual(int(run("blockdev", "--getsize64", node).stdout), 64 * MIB)
        self.assertEqual(int(run("blockdev", "--getss", node).stdout), 512)
        links = self.dir / "client-dev"
        self.assertEqual(os.path.realpath(links / "rnbd0"), os.path.realpath(node))
        self.assertEqual(os.path.realpath(links / "rnbd" / "e2e" / "disk0"), os.path.realpath(node))
        self.unmap("rnbd0")
        self.assertFalse(os.path.lexists(links / "rnbd0"))
        self.assertFalse(os.path.lexists(links / "rnbd" / "e2e" / "disk0"))

    def filesystem(self, make, check):
        need(make[0], check[0])
        node = self.mapped(size=400 * MIB)["node"]
        run(*make, node)
        where = self.dir / "mnt"
        where.mkdir()
        run("mount", node, where)
        try:
            random_file(where / "data", 40 * MIB)
            wanted = sha256(where / "data")
        finally:
            run("umount", where)
        self.unmap("rnbd0")
        again = self.map("disk0")["node"]
        run(*check, again)
        run("mount", again, where)
        try:
            self.assertEqual(sha256(where / "data"), wanted)
        finally:
            run("umount", where)

    def test_ext4_mount_copy_unmap_map_fsck(self):
        self.filesystem(("mkfs.ext4", "-q", "-F"), ("fsck.ext4", "-f", "-n"))

    def test_xfs_mount_copy_unmap_map_repair_check(self):
        if "xfs" not in Path("/proc/filesystems").read_text() and run("modprobe", "xfs", check=False).returncode != 0:
            raise unittest.SkipTest("this kernel cannot mount xfs")
        self.filesystem(("mkfs.xfs", "-q", "-f"), ("xfs_repair", "-n"))

    def test_fio_random_verify_over_the_block_device(self):
        need("fio")
        node = self.mapped(size=32 * MIB)["node"]
        run("fio", "--name=verify", f"--filename={os.path.realpath(node)}", "--ioengine=libaio", "--direct=1",
            "--rw=randrw", "--bsrange=512-1m", "--blockalign=512", "--iodepth=8", "--size=32m", "--verify=crc32c",
            "--verify_fatal=1", "--verify_backlog=64", "--randseed=11", "--serialize_overlap=1")

    def test_the_server_is_killed_again_and_again_under_fio_on_a_mounted_file_system(self):
        need("fio", "mkfs.ext4", "fsck.ext4")
        node = self.mapped(size=128 * MIB)["node"]
        run("mkfs.ext4", "-q", "-F", node)
        where = self.dir / "mnt"
        where.mkdir()
        run("mount", node, where)
        try:
            fio = subprocess.Popen(
                ["fio", "--name=verify", f"--directory={where}", "--rw=randwrite", "--bs=4k", "--size=24m", "--direct=1",
                 "--fsync=32", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--randseed=5"],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for _ in range(3):
                done = self.devices()[0]["writes"]
                wait_until(lambda: self.devices()[0]["writes"] > done + 100 or fio.poll() is not None, "I/O to flow")
                self.server.kill()
                self.start_server()
                wait_until(lambda: self.devices()[0]["state"] == "open", "the volume to be back")
            output, _ = fio.communicate(timeout=180)
            self.assertEqual(fio.returncode, 0, output[-3000:] + self.client.text()[-3000:])
        finally:
            run("umount", where)
        run("fsck.ext4", "-f", "-n", node)

    def test_blkdiscard_frees_blocks_on_the_server(self):
        node = self.mapped(size=32 * MIB)["node"]
        run("dd", "if=/dev/urandom", f"of={node}", "bs=1M", "count=16", "oflag=direct", "status=none")
        run("sync")
        full = os.stat(self.volumes / "disk0").st_blocks
        run("blkdiscard", "-o", "0", "-l", 8 * MIB, node)
        self.assertLess(os.stat(self.volumes / "disk0").st_blocks, full - 8000)

    def test_unmap_refuses_while_mounted_and_names_the_holder(self):
        need("mkfs.ext4")
        node = self.mapped()["node"]
        run("mkfs.ext4", "-q", "-F", node)
        where = self.dir / "mnt"
        where.mkdir()
        run("mount", node, where)
        try:
            refused = self.rnbd("unmap", "rnbd0", check=False)
            self.assertEqual(refused.returncode, 4, refused.stderr)
            self.assertIn(str(where), refused.stderr)
        finally:
            run("umount", where)
        self.unmap("rnbd0")

    def test_a_client_killed_with_a_block_device_is_followed_by_one_that_has_it_again(self):
        node = self.mapped()["node"]
        run("dd", "if=/dev/urandom", f"of={node}", "bs=1M", "count=2", "oflag=direct", "status=none")
        self.client.kill()
        self.start_client(frontend="loop")
        again = wait_until(lambda: next((d for d in self.devices() if d["state"] == "open" and d["loop"]), None),
                           "the volume to be there again", 60)
        self.assertEqual(again["volume"], "disk0")
        self.assertTrue(stat.S_ISBLK(os.stat(again["node"]).st_mode))
        run("cmp", "-n", 2 * MIB, again["node"], self.volumes / "disk0")
        self.unmap(again["name"])

    def test_unmap_refuses_while_open_and_force_takes_it_away(self):
        node = self.mapped()["node"]
        holder = subprocess.Popen(["sleep", "600"], stdin=open(node, "rb"))
        try:
            refused = self.rnbd("unmap", "rnbd0", check=False)
            self.assertEqual(refused.returncode, 4, refused.stderr)
            self.assertIn("sleep", refused.stderr)
            self.rnbd("unmap", "rnbd0", "--force", timeout=30)
            self.assertEqual(self.devices(), [])
        finally:
            holder.kill()
            holder.wait()


class FuseFile(EndToEnd):
    def setUp(self):
        if not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("no /dev/fuse on this machine")
        super().setUp()
        self.start_server()
        self.start_client(frontend="fuse")

    def test_the_volume_is_a_file_with_its_bytes_at_any_offset(self):
        self.volume("disk0", 16 * MIB)
        path = Path(self.map("disk0")["file"])
        self.assertEqual(path.stat().st_size, 16 * MIB)
        source = random_file(self.dir / "source", 16 * MIB)
        run("dd", f"if={source}", f"of={path}", "bs=1M", "conv=notrunc,fsync", "status=none")
        self.assertEqual(sha256(self.volumes / "disk0"), sha256(source))
        with open(path, "r+b", buffering=0) as f:
            f.seek(12345)
            f.write(b"odd bytes")
            os.fsync(f.fileno())
            f.seek(12340)
            self.assertEqual(f.read(20)[5:14], b"odd bytes")
        with open(self.volumes / "disk0", "rb") as f:
            f.seek(12345)
            self.assertEqual(f.read(9), b"odd bytes")

    def test_a_volume_cannot_be_truncated_or_removed(self):
        self.volume("disk0", MIB)
        path = Path(self.map("disk0")["file"])
        for deed in (lambda: os.truncate(path, 0), lambda: path.unlink()):
            with self.assertRaises(OSError):
                deed()
        self.assertEqual(path.stat().st_size, MIB)

    def test_a_read_only_mapping_is_a_read_only_file(self):
        self.volume("disk0", MIB)
        path = Path(self.map("disk0", mode="ro")["file"])
        with self.assertRaises(OSError):
            os.close(os.open(path, os.O_WRONLY))

    def test_the_file_is_gone_after_unmap(self):
        self.volume("disk0", MIB)
        path = Path(self.map("disk0")["file"])
        self.unmap("disk0")
        wait_until(lambda: not path.exists(), "the file to vanish")


if __name__ == "__main__":
    unittest.main()
