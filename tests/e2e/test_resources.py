"""Nothing is left behind by many mappings, and an idle pair of daemons burns nothing."""
import time

from harness import MIB, EndToEnd, wait_until


class Resources(EndToEnd):
    def test_1000_map_unmap_cycles_leave_nothing_behind(self):
        self.start_server()
        self.start_client()
        self.volume("disk0", 16 * MIB)

        def cycle():
            self.rnbd(*self.map_words("disk0"))
            self.rnbd("unmap", "disk0")

        def settled():
            return not self.server_json("list")["sessions"]

        for _ in range(500):
            cycle()
        wait_until(settled, "the sessions to end")
        before = [(d.descriptors(), d.resident_bytes()) for d in (self.server, self.client)]
        for _ in range(500):
            cycle()
        wait_until(settled, "the sessions to end")
        for daemon, (descriptors, resident) in zip((self.server, self.client), before):
            # The last command's connection may be about to be closed.
            wait_until(lambda: daemon.descriptors() <= descriptors, f"{daemon.name} to close what it opened")
            # 16 KiB per cycle; the tables of one session alone are hundreds.
            self.assertLess(daemon.resident_bytes() - resident, 8 * MIB, daemon.name)

    def test_an_idle_pair_with_a_mapped_volume_uses_no_measurable_cpu(self):
        self.start_server()
        self.start_client()
        self.volume("disk0", 16 * MIB)
        self.map("disk0")
        pair = (self.server, self.client)
        seconds = 4
        start = time.monotonic()
        used = [d.cpu_seconds() for d in pair]
        switches = [d.context_switches() for d in pair]
        wait_until(lambda: time.monotonic() - start >= seconds, "the measuring time to pass", seconds + 1)
        for daemon, cpu, switched in zip(pair, used, switches):
            self.assertLess(daemon.cpu_seconds() - cpu, 0.02, f"{daemon.name} burns CPU when idle")
            # Heartbeats both ways, and a look at the size of what is open once a second: some ten a second.
            self.assertLess(daemon.context_switches() - switched, 20 * seconds, f"{daemon.name} wakes up when idle")


if __name__ == "__main__":
    import unittest
    unittest.main()
