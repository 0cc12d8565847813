"""The attribute tree: a script for the kernel's sysfs runs on ours. test_tree_stress.py is about many at a time."""
import errno
import os
import random
import signal
import socket
import stat
import subprocess
import time
import unittest
from pathlib import Path

from harness import MIB, EndToEnd, need, run, wait_until

QUICK = 'reconnect_delay = "50ms"\nreconnect_delay_max = "500ms"\n'

# What an administrator of the kernel's modules would run: only $SYS differs from there. w TEXT FILE writes and tells how
# it ended.
SCRIPT = r"""
w() { if out=$( { echo "$1" > "$2"; } 2>&1 ); then echo ok; else echo "${out##*: }"; fi; }
CTL=$SYS/devices/virtual/rnbd-client/ctl
MAP=$CTL/map_device
SESS=$SYS/class/rtrs-client/blktest
DEV=$SYS/block/rnbd0/rnbd
"""


class Tree(EndToEnd):
    def setUp(self):
        super().setUp()
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            raise unittest.SkipTest("the tree needs root and /dev/fuse")
        self.root = self.dir / "sysfs"
        self.addCleanup(self.unmount_leftovers)

    def unmount_leftovers(self):
        for name in ("sysfs", "client-volumes"):
            subprocess.run(["umount", "-l", self.dir / name], capture_output=True)

    def tree_lines(self, peer):
        return f'sysfs_mountpoint = "{self.root}"\nsysfs_peer_socket = "{self.dir}/{peer}-admin.sock"\n'

    def start_both(self, frontend="fuse", order=("server", "client")):
        for which in order:
            if which == "server":
                self.start_server(extra=self.tree_lines("client"), listen='["ip:0.0.0.0"]')
            else:
                self.start_client(frontend=frontend, extra=QUICK + self.tree_lines("server"))
        wait_until(lambda: self.sides() == ["client", "server"], "the tree")

    def sides(self):
        try:
            return [side for side in ("client", "server") if (self.root / f"class/rnbd-{side}/ctl").exists()]
        except OSError:
            return ["dead"]

    def sh(self, script):
        """Runs lines of shell behind SCRIPT; the lines it printed."""
        result = run("bash", "-c", SCRIPT + script, env={**os.environ, "SYS": str(self.root), "PORT": str(self.port),
                                                         "VOLUMES": str(self.volumes)})
        self.assertEqual(result.stderr, "")
        return result.stdout.splitlines()

    def read(self, path):
        return (self.root / path).read_text()

    def write(self, path, text):
        """0, or the errno of the write."""
        try:
            fd = os.open(self.root / path, os.O_WRONLY | os.O_TRUNC)
        except OSError as error:
            return error.errno
        try:
            os.write(fd, text.encode())
            return 0
        except OSError as error:
            return error.errno
        finally:
            os.close(fd)

    def map_line(self, volume, session="blktest", paths=("127.0.0.1",), more=""):
        words = " ".join(f"path=ip:{path}" for path in paths)
        return f"dest_port={self.port} sessname={session} {words} device_path={volume} {more}".strip()

    def map_by_tree(self, volume, **keywords):
        self.assertEqual(self.write("devices/virtual/rnbd-client/ctl/map_device", self.map_line(volume, **keywords)), 0)


class KernelScript(Tree):
    def setUp(self):
        super().setUp()
        self.volume("dev/nullb0", 16 * MIB)
        self.volume("dev/nullb1", 16 * MIB)
        self.start_both()

    def fill(self, name):
        """Writes to the volume, a MiB."""
        with open(next((self.dir / "client-volumes").glob(f"*{name}")), "r+b", buffering=0) as file:
            file.write(random.Random(1).randbytes(MIB))

    MAP_BOTH = r"""
w "sessname=blktest dest_port=$PORT path=ip:127.0.0.1 path=ip:127.0.0.2 device_path=/dev/nullb0" $MAP
w "sessname=blktest dest_port=$PORT path=ip:127.0.0.1 device_path=/dev/nullb1 access_mode=ro" $MAP
"""

    def test_mapping_answers_as_recorded(self):
        said = self.sh(self.MAP_BOTH + r"""
w "sessname=blktest dest_port=$PORT path=ip:127.0.0.1 device_path=/dev/nullb0" $MAP
w "sessname=blktest dest_port=$PORT path=ip:127.0.0.1 device_path=/dev/nosuch" $MAP
w "sessname=blktest dest_port=$PORT path=ip:127.0.0.99 device_path=/dev/nullb0" $MAP
w "sessname=other dest_port=1 path=ip:127.0.0.1 device_path=/dev/nullb0" $MAP
w "sessname=other device_path=/dev/nullb0" $MAP
w "bogus" $MAP
w "sessname=other path=127.0.0.1 device_path=/dev/nullb0" $MAP
w "sessname=other dest_port=$PORT path=ip:127.0.0.1 device_path=/dev/nullb0" $MAP
w "sessname=third dest_port=$PORT path=ip:127.0.0.1 device_path=/dev/nullb0 access_mode=ro" $MAP
while [ -e $SYS/class/rtrs-server/other ]; do sleep 0.01; done  # the server's session of one that was refused
ls $CTL/devices
readlink $CTL/devices/'!dev!nullb1@blktest' $SYS/class/rtrs-client/third $SYS/block/rnbd2
ls $SYS/devices/virtual/rnbd-server/ctl/devices
ls $SYS/class/rtrs-server
cat $SYS/class/rnbd-server/ctl/devices/dev!nullb0/sessions/*/access_mode
""")
        self.assertEqual(said, [
            "ok", "ok", "File exists", "No such file or directory", "File exists", "Connection reset by peer",
            "No such device or address", "Invalid argument", "Protocol not supported", "Operation not permitted", "ok",
            "!dev!nullb0@blktest", "!dev!nullb0@third", "!dev!nullb1@blktest",
            "../../../block/rnbd1", "../../devices/virtual/rtrs-client/third", "../devices/virtual/block/rnbd2",
            "dev!nullb0", "dev!nullb1", "blktest", "third", "rw", "ro"])

    def test_values_and_policies_are_as_recorded(self):
        said = self.sh(self.MAP_BOTH + r"""
cat $DEV/{state,session,mapping_path,access_mode,nr_poll_queues,unmap_device,resize,remap_device}
cat $SYS/block/rnbd1/rnbd/access_mode $SYS/block/rnbd1/size
cat $SESS/mpath_policy $SESS/max_reconnect_attempts
for p in round-robin RR min-inflight 2 bogus; do w $p $SESS/mpath_policy; cat $SESS/mpath_policy; done
w 5 $SESS/max_reconnect_attempts; w 10000 $SESS/max_reconnect_attempts; cat $SESS/max_reconnect_attempts
for p in $SESS/paths/*; do cat $p/{state,dst_addr,hca_name,hca_port,reconnect}; done
cat $SYS/module/rnbd_server/parameters/port_nr $SYS/module/rtrs_server/parameters/sess_queue_depth
""")
        self.assertEqual(said, [
            "ok", "ok", "open", "blktest", "/dev/nullb0", "rw", "0", "Usage: echo <normal|force> > unmap_device",
            "Usage: echo <new size in sectors> > resize", "Usage: echo <1> > remap_device", "ro", "32768",
            "min-inflight (MI: 1)", "-1",
            "ok", "round-robin (RR: 0)", "ok", "round-robin (RR: 0)", "ok", "min-inflight (MI: 1)",
            "ok", "min-latency (ML: 2)", "Invalid argument", "min-latency (ML: 2)", "ok", "Invalid argument", "5",
            "connected", "ip:127.0.0.1", "tcp", "0", "Usage: echo 1 > reconnect",
            "connected", "ip:127.0.0.2", "tcp", "0", "Usage: echo 1 > reconnect", str(self.port), "512"])

    def test_paths_are_disconnected_reconnected_removed_and_added(self):
        said = self.sh(self.MAP_BOTH + r"""
P=$(echo $SESS/paths/*@ip:127.0.0.2)
w 1 $P/disconnect; cat $P/state
w 1 $P/disconnect
w 0 $P/reconnect
w 1 $P/reconnect; cat $P/state
w 1 $P/remove_path; ls $SESS/paths | wc -l
w nonsense $SESS/add_path
w ip:127.0.0.2 $SESS/add_path; cat $SESS/paths/*@ip:127.0.0.2/state
w ip:127.0.0.2 $SESS/add_path
""")
        self.assertEqual(said, ["ok", "ok", "ok", "disconnected", "ok", "Invalid argument", "ok", "connected", "ok", "1",
                                "Invalid argument", "ok", "connected", "File exists"])

    def test_statistics_are_numbers_of_the_recorded_shape(self):
        self.sh(self.MAP_BOTH)
        session = "class/rtrs-client/blktest/paths"
        self.fill("nullb0")
        for path in os.listdir(self.root / session):
            stats = f"{session}/{path}/stats"
            rdma = [int(word) for word in self.read(f"{stats}/rdma").split(" ")]
            self.assertEqual(len(rdma), 6)
            self.assertEqual(len(self.read(f"{stats}/reconnects").split()), 2)
            self.assertTrue(self.read(f"{stats}/cpu_migration_from").endswith(" \n"))
            self.assertEqual(self.read(f"{stats}/reset_all"), "echo 1 to reset all statistics\n")
            self.assertRegex(self.read(f"{session}/{path}/cur_latency"), r"^\d+ ns\n$")
            self.assertEqual(self.write(f"{stats}/rdma", "0"), errno.EINVAL)
        total = sum(int(self.read(f"{session}/{path}/stats/rdma").split()[3]) for path in os.listdir(self.root / session))
        self.assertGreaterEqual(total, MIB)
        server = "class/rtrs-server/blktest/paths"
        for path in os.listdir(self.root / server):
            self.assertEqual(len(self.read(f"{server}/{path}/stats/rdma").split()), 4)

    def test_a_histogram_has_every_request_that_was_counted(self):
        self.sh(self.MAP_BOTH)
        self.fill("nullb0")
        for where, stages in (("block/rnbd0/rnbd", ["queue", "wire"]), ("class/rtrs-client/blktest", ["queue", "wire"]),
                              ("class/rtrs-server/blktest", ["server", "backend"])):
            # Another request may be counted between the two.
            for _ in range(100):
                counted = [line.split() for line in self.read(f"{where}/latency").splitlines()]
                drawn = [line.split() for line in self.read(f"{where}/latency_histogram").splitlines()]
                sums = [[line[0], sum(int(n) for n in line[2::2])] for line in drawn]
                if sums == [[line[0], int(line[2])] for line in counted]:
                    break
            self.assertEqual(sums, [[line[0], int(line[2])] for line in counted])
            self.assertEqual([line[0] for line in drawn], stages)
            for line in drawn:
                bounds = [int(word.removeprefix("<").removesuffix("us")) for word in line[1::2]]
                self.assertEqual(bounds, sorted({b for b in bounds if b & (b - 1) == 0}), line)
            self.assertTrue(any(n for _, n in sums), drawn)

    def test_the_hosts_of_a_session_are_told_as_far_as_they_are_known(self):
        self.sh(self.MAP_BOTH)
        here = socket.gethostname()
        self.assertEqual(self.read("class/rtrs-client/blktest/client_host"), here + "\n")
        self.assertEqual(self.read("class/rtrs-server/blktest/server_host"), here + "\n")
        self.assertEqual(self.read("class/rtrs-client/blktest/server_host"), "\n")

    def test_statistics_are_reset(self):
        self.sh(self.MAP_BOTH)
        self.fill("nullb0")
        for stats in (self.root / "class/rtrs-client/blktest/paths").glob("*/stats"):
            self.assertEqual(self.write(stats / "reset_all", "1\n"), 0)
            self.assertEqual((stats / "rdma").read_text().split()[:4], ["0"] * 4)
            self.assertEqual((stats / "reconnects").read_text(), "0 0\n")
        for stats in (self.root / "class/rtrs-server/blktest/paths").glob("*/stats"):
            self.assertEqual(self.write(stats / "rdma", "1\n"), 0)
            self.assertEqual((stats / "rdma").read_text(), "0 0 0 0\n")

    def test_unmapping_a_device_in_use_is_refused_unless_forced(self):
        self.sh(self.MAP_BOTH)
        with open(next((self.dir / "client-volumes").glob("*nullb0")), "rb"):
            said = self.sh(r"""
w normal $DEV/unmap_device
cat $DEV/last_error | wc -l
w bogus $DEV/unmap_device
w 1 $DEV/remap_device
cat $DEV/state
w force $DEV/unmap_device
ls $SYS/block
""")
        self.assertEqual(said, ["Device or resource busy", "1", "Invalid argument", "Operation already in progress",
                                "open", "ok", "rnbd1"])
        self.assertEqual(self.write("block/rnbd1/rnbd/unmap_device", "normal"), 0)
        self.assertEqual(os.listdir(self.root / "class/rtrs-client"), [])
        self.assertEqual(os.listdir(self.root / "block"), [])
        wait_until(lambda: os.listdir(self.root / "class/rtrs-server") == [], "the server's session to go")

    def test_a_volume_that_grew_is_resized_and_never_beyond_it(self):
        self.sh(self.MAP_BOTH)
        self.assertEqual(self.write("block/rnbd0/rnbd/resize", "65536"), errno.EINVAL)  # the server has no more
        self.volume("dev/nullb0", 32 * MIB)
        self.assertEqual(self.write("block/rnbd0/rnbd/resize", "65536\n"), 0)
        self.assertEqual(self.read("block/rnbd0/size"), "65536\n")
        self.assertNotEqual(self.write("block/rnbd0/rnbd/resize", "2048"), 0)
        self.assertNotEqual(self.read("block/rnbd0/rnbd/last_error"), "")
        self.assertEqual(self.write("block/rnbd0/rnbd/resize", "bogus"), errno.EINVAL)

    def test_a_volume_taken_from_its_client_comes_back(self):
        self.sh(self.MAP_BOTH)
        opened = "class/rnbd-server/ctl/devices/dev!nullb0/sessions/blktest"
        self.assertEqual(self.write(f"{opened}/force_close", "yes"), errno.EINVAL)
        self.assertEqual(self.write(f"{opened}/force_close", "1\n"), 0)

        def remapped():
            self.assertIn(self.write("block/rnbd0/rnbd/remap_device", "1"), (0, errno.EALREADY, errno.EBUSY))
            return (self.root / opened).exists() and self.read("block/rnbd0/rnbd/state") == "open\n"

        wait_until(remapped, "the client to have it again")
        self.fill("nullb0")


class FileSystem(Tree):
    """What programs may expect of files in sysfs."""

    def setUp(self):
        super().setUp()
        self.volume("disk0", 16 * MIB)

    def test_modes_sizes_and_owners_are_those_of_sysfs(self):
        self.start_both()
        self.map_by_tree("disk0")
        for path, mode, size in (("block/rnbd0/rnbd/state", 0o100444, 4096),
                                 ("block/rnbd0/rnbd/unmap_device", 0o100644, 4096),
                                 ("block/rnbd0/rnbd", 0o040755, 0), ("class", 0o040755, 0)):
            status = os.stat(self.root / path)
            self.assertEqual((status.st_mode, status.st_size, status.st_uid, status.st_gid), (mode, size, 0, 0), path)
        self.assertTrue(stat.S_ISLNK(os.lstat(self.root / "block/rnbd0").st_mode))
        self.assertEqual(os.stat(self.root / "devices/virtual").st_nlink,
                         2 + len(os.listdir(self.root / "devices/virtual")))

    def test_every_node_listed_can_be_looked_at_and_read(self):
        self.start_both()
        self.map_by_tree("disk0", paths=("127.0.0.1", "127.0.0.2"))
        files = 0
        for folder, folders, names in os.walk(self.root):
            for name in folders + names:
                status = os.lstat(f"{folder}/{name}")
                if stat.S_ISREG(status.st_mode):
                    files += 1
                    self.assertLessEqual(len(Path(folder, name).read_bytes()), 4096)
        self.assertGreater(files, 100)

    def test_nothing_is_made_removed_or_written_that_is_not_to_be(self):
        self.start_both()
        self.map_by_tree("disk0")
        state = self.root / "block/rnbd0/rnbd/state"
        for error, call in ((errno.EACCES, lambda: open(state, "w")),
                            (errno.EACCES, lambda: open(self.root / "class/new", "w")),
                            (errno.EPERM, lambda: os.mkdir(self.root / "class/new")),
                            (errno.EPERM, lambda: os.unlink(state)),
                            (errno.EPERM, lambda: os.rename(state, f"{state}2")),
                            (errno.EPERM, lambda: os.chmod(state, 0o666)),
                            (errno.EISDIR, lambda: os.open(self.root / "class", os.O_WRONLY))):
            with self.assertRaises(OSError) as raised:
                call()
            self.assertEqual(raised.exception.errno, error, raised.exception)

    def test_one_open_reads_one_moment_and_another_from_the_beginning(self):
        self.start_both()
        self.map_by_tree("disk0")
        policy = "class/rtrs-client/blktest/mpath_policy"
        fd = os.open(self.root / policy, os.O_RDONLY)
        self.addCleanup(os.close, fd)
        start = os.read(fd, 4)
        self.assertEqual(self.write(policy, "RR"), 0)
        self.assertEqual(start + os.read(fd, 100), b"min-inflight (MI: 1)\n")
        self.assertEqual(os.read(fd, 100), b"")
        self.assertEqual(os.pread(fd, 100, 0), b"round-robin (RR: 0)\n")

    def test_files_of_what_is_gone_answer_that_it_is(self):
        self.start_both()
        self.map_by_tree("disk0")
        reader = os.open(self.root / "block/rnbd0/rnbd/state", os.O_RDONLY)
        writer = os.open(self.root / "block/rnbd0/rnbd/unmap_device", os.O_WRONLY)
        os.write(writer, b"force\n")
        for call in (lambda: os.read(reader, 100), lambda: os.write(writer, b"force\n")):
            with self.assertRaises(OSError) as raised:
                call()
            self.assertEqual(raised.exception.errno, errno.ENODEV)
        os.close(reader)
        os.close(writer)

    def test_a_write_is_taken_whole_or_not_at_all(self):
        self.start_both()
        self.map_by_tree("disk0")
        policy = "class/rtrs-client/blktest/mpath_policy"
        for size in (4097, 8192, 70000):
            self.assertEqual(self.write(policy, "round-robin".ljust(size, "x")), errno.E2BIG, size)
        self.assertEqual(self.read(policy), "min-inflight (MI: 1)\n")

    def test_why_a_write_failed_is_told_until_one_succeeds(self):
        self.start_both()
        line = self.map_line("nosuch")
        self.assertEqual(self.write("class/rnbd-client/ctl/map_device", line), errno.ENOENT)
        self.assertIn("nosuch", self.read("class/rnbd-client/ctl/last_error"))
        self.assertIn("nosuch", self.client.text())
        self.map_by_tree("disk0")
        self.assertEqual(self.read("class/rnbd-client/ctl/last_error"), "")

    def test_a_write_that_waits_for_a_server_can_be_interrupted(self):
        self.start_both(order=("client", "server"))
        self.server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(self.server.process.send_signal, signal.SIGCONT)
        target = self.root / "devices/virtual/rnbd-client/ctl/map_device"
        writer = subprocess.Popen(["bash", "-c", f"echo '{self.map_line('disk0')}' > {target}"], stderr=subprocess.PIPE)
        wait_until(lambda: self.rnbd_json("client", "list")["sessions"] != [], "the mapping to be under way")
        writer.terminate()
        self.assertNotEqual(writer.wait(60), 0)
        writer.stderr.close()
        # Neither is anybody else kept waiting by the side that does not answer.
        started = time.monotonic()
        self.assertTrue((self.root / "class/rnbd-client/ctl/map_device").exists())
        os.listdir(self.root / "class")
        self.assertLess(time.monotonic() - started, 8)
        self.server.process.send_signal(signal.SIGCONT)

    def test_nothing_of_before_a_command_is_shown_after_it(self):
        for order in (("server", "client"), ("client", "server")):  # whose side is its own to who shows the tree
            self.start_both(order=order, frontend="nbd")
            sides = ("devices/virtual/rnbd-client/ctl/devices/disk0@blktest",
                     "devices/virtual/rnbd-server/ctl/devices/disk0", "block/rnbd0/rnbd")
            there = lambda names: [os.path.lexists(self.root / name) for name in names]
            for _ in range(10):
                self.assertEqual(there(sides), [False] * 3)
                self.map_by_tree("disk0")
                self.assertEqual(there(sides), [True] * 3)
                self.assertEqual(self.write("block/rnbd0/rnbd/unmap_device", "normal"), 0)
            for _ in range(5):  # by the admin socket
                self.assertEqual(there(sides[:1]), [False])
                self.map("disk0", session="blktest")
                self.assertEqual(there(sides[:1]), [True])
                self.unmap("rnbd0")
            for daemon in (self.client, self.server):
                self.assertEqual(daemon.terminate(), 0)

    def test_the_admin_commands_are_the_same_attributes(self):
        self.start_both(frontend="nbd")
        self.map_by_tree("disk0")
        ask = lambda request: self.ask("client", request)
        policy = "devices/virtual/rtrs-client/blktest/mpath_policy"
        self.assertEqual(ask({"command": "read_attribute", "target": policy})["text"], "min-inflight (MI: 1)\n")
        self.assertTrue(ask({"command": "write_attribute", "target": policy, "text": "rr"})["ok"])
        self.assertEqual(self.read(policy), "round-robin (RR: 0)\n")
        refused = ask({"command": "write_attribute", "target": policy, "text": "bogus"})
        self.assertEqual((refused["ok"], refused["error"]["errno"]), (False, errno.EINVAL))
        self.assertIn("bogus", self.read("devices/virtual/rtrs-client/blktest/last_error"))
        nodes = ask({"command": "list_attributes", "target": "block"})["nodes"]
        self.assertIn(("block/rnbd0", "link", "../devices/virtual/block/rnbd0"),
                      [(n["path"], n["kind"], n["target"]) for n in nodes])
        names = {n["path"] for n in self.ask("server", {"command": "list_attributes"})["nodes"]}
        self.assertIn("class/rtrs-server/blktest", names)
        self.assertNotIn("class/rtrs-client", names)

    def ask(self, side, request):
        import json
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(str(self.dir / f"{side}-admin.sock"))
            s.sendall(json.dumps({"version": 1, **request}).encode() + b"\n")
            return json.loads(s.makefile().readline())


class Sharing(Tree):
    """One root shows both daemons of a machine, whichever of them lives."""

    def setUp(self):
        super().setUp()
        self.volume("disk0", 16 * MIB)

    def test_whoever_comes_first_shows_both(self):
        for order in (("server", "client"), ("client", "server")):
            self.start_both(order=order, frontend="nbd")
            self.map_by_tree("disk0")
            self.assertEqual(os.listdir(self.root / "class/rtrs-server"), ["blktest"])
            self.assertEqual(self.write("block/rnbd0/rnbd/unmap_device", "normal"), 0)
            self.assertEqual(self.client.terminate(), 0)
            self.assertEqual(self.server.terminate(), 0)
            self.assertEqual(os.listdir(self.root), [])

    def test_the_other_takes_over_from_one_that_died_and_its_successor_stands_by(self):
        self.start_both(order=("client", "server"), frontend="nbd")
        self.client.kill()
        wait_until(lambda: self.sides() == ["server"], "the server to take over")
        self.start_client(frontend="nbd", extra=QUICK + self.tree_lines("server"))
        wait_until(lambda: self.sides() == ["client", "server"], "both sides")
        self.map_by_tree("disk0")
        self.assertEqual(self.server.terminate(), 0)
        wait_until(lambda: self.sides() == ["client"], "the client to take over")
        self.assertEqual(self.read("block/rnbd0/rnbd/mapping_path"), "disk0\n")

    def test_a_dead_mount_is_replaced_by_the_next_start(self):
        for _ in range(5):  # one that died a moment ago still has attributes in the kernel's cache
            self.start_client(frontend="nbd", extra=self.tree_lines("server"))
            wait_until(lambda: self.sides() == ["client"], "the tree")
            self.client.kill()
        self.start_client(frontend="nbd", extra=self.tree_lines("server"))
        wait_until(lambda: self.sides() == ["client"], "the tree")

    def test_a_place_that_cannot_be_mounted_is_a_warning(self):
        (self.dir / "file").write_text("")
        self.start_client(frontend="nbd", extra=f'sysfs_mountpoint = "{self.dir}/file"\n')
        wait_until(lambda: "attributes do not appear below" in self.client.text(), "the warning")
        self.assertIn("sysfs_mountpoint", self.client.text())

    def test_ending_answers_who_still_waits(self):
        self.start_both(order=("client", "server"), frontend="nbd")
        self.server.process.send_signal(signal.SIGSTOP)
        self.addCleanup(lambda: self.server.process.send_signal(signal.SIGCONT))
        target = self.root / "devices/virtual/rnbd-client/ctl/map_device"
        writer = subprocess.Popen(["bash", "-c", f"echo '{self.map_line('disk0')}' > {target}"], stderr=subprocess.PIPE)
        wait_until(lambda: self.rnbd_json("client", "list")["sessions"] != [], "the mapping to be under way")
        self.assertEqual(self.client.terminate(), 0)
        self.assertNotEqual(writer.wait(60), 0)
        writer.stderr.close()
        self.server.process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    unittest.main()
