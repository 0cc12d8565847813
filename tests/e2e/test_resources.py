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
        # Bounds of an idle machine; where others keep it busy, one quiet look of three will do.
        looks = []
        for _ in range(3):
            cpu, switches = self.look()
            if max(cpu) < 0.005 and max(switches) < 20:
                return
            looks.append((cpu, switches))
        self.fail(f"CPU time and wake-ups a second of server and client, idle: {looks}")

    def look(self):
        """CPU time and wake-ups of server and client, per second."""
        pair = (self.server, self.client)
        start = time.monotonic()
        used, switched = [d.cpu_seconds() for d in pair], [d.context_switches() for d in pair]
        wait_until(lambda: time.monotonic() - start >= 4, "the measuring time to pass")
        elapsed = time.monotonic() - start
        # Heartbeats both ways, and a look at the size of what is open once a second: some ten wake-ups a second.
        return ([(d.cpu_seconds() - before) / elapsed for d, before in zip(pair, used)],
                [(d.context_switches() - before) / elapsed for d, before in zip(pair, switched)])


if __name__ == "__main__":
    import unittest
    unittest.main()
