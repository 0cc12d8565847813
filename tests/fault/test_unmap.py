"""Unmapping by force returns, whatever the server, its storage or the network do, or do not."""
import os
import subprocess
import time
import unittest

from bounds import SCALE
from faults import BIN, BLOCKS, Daemon, EndToEnd, Faults, wait_until
from proxy import Proxy

FORCE_S = 20.0  # the connect timeout for CLOSE, and for what is left of the session


class Unmap(Faults):
    def setUp(self):
        EndToEnd.setUp(self)  # without the checker

    def stuck_write(self, uri):
        """A write under way in the device that nobody answers."""
        write = subprocess.Popen(["nbdsh", "-u", uri, "-c", "h.pwrite(bytes(4096), 0)"], stderr=subprocess.PIPE)
        self.addCleanup(write.kill)
        wait_until(lambda: self.devices()[0]["inflight"] > 0, "the write to be stuck")
        return write

    def unmap_by_force(self, write):
        busy = self.rnbd("unmap", "rnbd0", check=False)
        self.assertEqual(busy.returncode, 4, busy.stderr)
        started = time.monotonic()
        self.rnbd("unmap", "rnbd0", "--force", timeout=60)
        self.assertLess(time.monotonic() - started, FORCE_S * SCALE, self.client.text()[-3000:])
        self.assertEqual(self.devices(), [])
        write.communicate(timeout=60)
        self.assertNotEqual(write.returncode, 0)

    def test_while_the_server_is_frozen(self):
        self.both()
        uri = self.map_on("disk0")
        with self.stopped(self.server):
            self.unmap_by_force(self.stuck_write(uri))

    def test_while_the_path_is_a_black_hole(self):
        self.both()
        path = Proxy(self.port, host="127.0.0.2")
        self.addCleanup(path.close)
        uri = self.map_on("disk0", [path])
        path.black_hole("both")
        self.unmap_by_force(self.stuck_write(uri))
        path.heal()

    def test_while_the_storage_is_stalled(self):
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("needs root and /dev/fuse")
        if not (BIN / "rnbd-faulty").exists():
            raise unittest.SkipTest("rnbd-faulty was not built (it needs libfuse3-dev)")
        mount = self.volumes / "faulty"
        mount.mkdir()
        faulty = Daemon("rnbd-faulty", [BIN / "rnbd-faulty", mount, "disk0", f"--size={BLOCKS * 4096}"],
                        self.dir / "faulty.log")
        self.daemons.append(faulty)  # the first: it ends last
        control = mount / "control"
        wait_until(control.exists, "rnbd-faulty to serve")
        self.addCleanup(subprocess.run, ["umount", "-l", str(mount)], capture_output=True)
        self.both(server_extra='direct = "on"\nblock_size = "4K"\n')
        uri = self.rnbd_json(*self.map_words("faulty/disk0"))["devices"][0]["nbd"]
        control.write_text("stall")
        try:
            self.unmap_by_force(self.stuck_write(uri))
        finally:
            control.write_text("go")


if __name__ == "__main__":
    unittest.main()
