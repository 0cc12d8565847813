"""The attribute tree under many who read and write at random: nothing gets stuck, nothing breaks."""
import errno
import os
import random
import threading
import time
import unittest

from harness import MIB
from test_sysfs import Tree

# Random operations; scripts/soak tree does 100000.
OPERATIONS = int(os.environ.get("RNBD_TREE_STRESS", "2000"))


class Stress(Tree):
    """Random reads and writes while volumes are mapped, unmapped and taken away: no stuck call, no report.

    What each thread does is decided by its seed alone: names are chosen from all that there can be, whether they are
    there at the moment or not."""

    WRITES = ["1", "0", "1\n", "normal", "force", "bogus", "", "rr", "mi", "ml", "-1", "5", "9999", "ip:127.0.0.2",
              "ip:127.0.0.1@ip:127.0.0.3", "32768", "0x8000", "change", "forever", "30s", "x" * 4096, "x" * 5000]
    # A tree that changes under its users has these answers; anything else is a fault.
    EXPECTED = {errno.ENOENT, errno.ENODEV, errno.EINVAL, errno.EBUSY, errno.EALREADY, errno.EEXIST, errno.ENOTCONN,
                errno.EACCES, errno.EISDIR, errno.E2BIG, errno.EPERM, errno.ENXIO, errno.ECONNRESET, errno.ECONNABORTED,
                errno.ESTALE, errno.ENOMEM, errno.EPROTONOSUPPORT, errno.EMFILE, errno.ETIMEDOUT, errno.EPIPE}
    STUCK = 90  # seconds; whatever an operation waits for is bounded by map_timeout, 30 s
    TOLD = 5  # operations of a thread between words of progress
    WANDERERS = 4
    VOLUMES = 4

    def setUp(self):
        super().setUp()
        for i in range(self.VOLUMES):
            self.volume(f"disk{i}", 16 * MIB)
        self.start_both(frontend="nbd")
        self.faults = []
        self.over = False  # the wanderers have done their operations
        self.done = {}  # thread: operations
        self.answers = {}  # errno: how often
        self.slowest = (0.0, "")
        self.under_way = {}  # thread: (what it does, since when)
        self.progress = threading.Condition()  # guards all of these; told now and then

    def step(self, call, what):
        """One operation; what it ended with is counted, and how long it took."""
        started = time.monotonic()
        ended = 0
        me = threading.current_thread().name
        self.under_way[me] = (what, started)
        try:
            call()
        except OSError as error:
            ended = error.errno
            if ended not in self.EXPECTED:
                self.faults.append(f"{what}: {error}")
        with self.progress:
            del self.under_way[me]
            self.done[me] = self.done.get(me, 0) + 1
            self.answers[ended] = self.answers.get(ended, 0) + 1
            self.slowest = max(self.slowest, (time.monotonic() - started, what))
            if self.done[me] % self.TOLD == 0:
                self.progress.notify_all()

    def put(self, path, text):
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def get(self, path):
        fd = os.open(path, os.O_RDONLY)
        try:
            while os.read(fd, 4096):
                pass
        finally:
            os.close(fd)

    def names(self):
        """Every attribute, by the way of every link to a directory as well; not the volumes that links lead to."""
        found = []
        for folder, folders, names in os.walk(self.root, onerror=lambda error: None):
            found += [f"{folder}/{name}" for name in names if not os.path.islink(f"{folder}/{name}")]
            found += [f"{folder}/{name}/{inner}" for name in folders if os.path.islink(f"{folder}/{name}")
                      for inner in self.files_in(f"{folder}/{name}")]
        return found

    @staticmethod
    def files_in(folder):
        try:
            return [entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)]
        except OSError:
            return []

    def map_words_of(self, number):
        return self.map_line(f"disk{number}", session=f"s{number % 2}", paths=("127.0.0.1", "127.0.0.2"))

    def all_names(self):
        """What there is when everything is mapped."""
        ctl = self.root / "devices/virtual/rnbd-client/ctl"
        for number in range(self.VOLUMES):
            self.put(ctl / "map_device", self.map_words_of(number))
        for session in ("s0", "s1"):
            self.put(self.root / "class/rtrs-client" / session / "add_path", "ip:127.0.0.1@ip:127.0.0.3")
        found = sorted(self.names())
        for number in range(self.VOLUMES):
            self.put(ctl / "devices" / f"disk{number}@s{number % 2}" / "rnbd/unmap_device", "normal")
        return found

    def wander(self, seed, known, operations):
        choose = random.Random(seed)
        for _ in range(operations):
            if self.faults:
                return
            kind = choose.random()
            path = choose.choice(known)
            text = choose.choice(self.WRITES)
            if kind < 0.0002:
                self.step(self.names, "a walk")
            elif kind < 0.05:
                self.step(lambda: os.listdir(os.path.dirname(path)), f"list {os.path.dirname(path)}")
            elif kind < 0.7:
                self.step(lambda: self.get(path), path)
            else:
                self.step(lambda: self.put(path, text), f"{text[:20]} > {path}")

    def linger(self, operations):
        """Until the others have done so many."""
        with self.progress:
            until = sum(self.done.values()) + operations
            self.progress.wait_for(lambda: self.over or self.faults or sum(self.done.values()) >= until)

    def turn(self, number):
        """Maps, and unmaps or takes away, one volume over and over."""
        choose = random.Random(1000 + number)
        ctl = self.root / "devices/virtual/rnbd-client/ctl"
        server = self.root / "devices/virtual/rnbd-server/ctl/devices"
        line = self.map_words_of(number)
        while not self.over and not self.faults:
            self.step(lambda: self.put(ctl / "map_device", line), line)
            self.linger(choose.randrange(200))
            if choose.random() < 0.3:
                close = server / f"disk{number}" / "sessions" / f"s{number % 2}" / "force_close"
                self.step(lambda: self.put(close, "1"), "force_close")
            link = ctl / "devices" / f"disk{number}@s{number % 2}"
            how = choose.choice(["normal", "force"])
            self.step(lambda: self.put(link / "rnbd/unmap_device", how), how)

    def wait_for(self, threads):
        for thread in threads:
            while thread.is_alive():
                thread.join(1)
                self.look_after_daemons()
                now = time.monotonic()
                alive = {t.name for t in threads if t.is_alive()}
                stuck = [what for name, (what, since) in list(self.under_way.items())
                         if name in alive and now - since > self.STUCK]
                self.assertFalse(stuck, f"stuck after {self.done} operations; log:\n{self.client.text()[-3000:]}")

    def look_after_daemons(self):
        """A sanitizer that reports ends the run at once; the rest of it would be for nothing."""
        for daemon in (self.client, self.server):
            self.assertTrue(daemon.alive(), f"{daemon.name} died ({daemon.process.poll()}):\n{daemon.text()[-6000:]}")
            text = daemon.text()
            at = text.find("WARNING: ThreadSanitizer")
            self.assertEqual(at, -1, text[at:at + 6000])

    def test_nothing_gets_stuck_or_breaks(self):
        known = self.all_names()
        self.assertGreater(len(known), 300)
        started = time.monotonic()
        wanderers = [threading.Thread(target=self.wander, args=(seed, known, OPERATIONS // self.WANDERERS),
                                      name=f"wanderer {seed}", daemon=True) for seed in range(self.WANDERERS)]
        turners = [threading.Thread(target=self.turn, args=(number,), name=f"turner {number}", daemon=True)
                   for number in range(self.VOLUMES)]
        for thread in wanderers + turners:
            thread.start()
        self.wait_for(wanderers)
        with self.progress:
            self.over = True
            self.progress.notify_all()
        self.wait_for(turners)
        self.assertEqual(self.faults, [])
        answers = ", ".join(f"{errno.errorcode.get(number, 'done')} {count}"
                            for number, count in sorted(self.answers.items(), key=lambda item: -item[1]))
        of_turners = sum(count for name, count in self.done.items() if name.startswith("turner"))
        print(f"{sum(self.done.values()) - of_turners} random operations, {of_turners} of mapping and unmapping in "
              f"{time.monotonic() - started:.0f} s, the slowest {self.slowest[0]:.1f} s ({self.slowest[1]})\n"
              f"answers: {answers}", flush=True)
        self.look_after_daemons()
        for device in self.devices():
            self.unmap(device["name"], "force")
        self.assertEqual(os.listdir(self.root / "block"), [])


if __name__ == "__main__":
    unittest.main()
