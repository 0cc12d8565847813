"""Paths that break under load, one at a time or all of them: no error, nothing stale, bounded pauses."""
import random

from bounds import (BLACK_HOLE_STALL_S, BLACK_HOLES, CUT_STALL_S, FLAP_INTERVAL_S, FLAPS, HELD_WRITES, PATH_CUTS,
                    RECOVERY_STALL_S, SEED)
from faults import Faults, Stamp, pause, wait_until
from proxy import Proxy


class Paths(Faults):
    def start(self, paths=2, **keywords):
        """Both daemons with so many proxies between, and the load of two volumes over all of them."""
        self.both(**keywords)
        self.paths = [Proxy(self.port, host=f"127.0.0.{2 + i}") for i in range(paths)]
        for path in self.paths:
            self.addCleanup(path.close)
        self.random = random.Random(SEED)
        return Stamp(self, self.volumes_on(*self.paths), f"--seed={SEED}")

    def connected(self):
        """How many paths of the session are connected."""
        sessions = self.rnbd_json("client", "list", "sessions")["sessions"]
        return sum(p["state"] == "connected" for s in sessions for p in s["paths"])

    def wait_connected(self, count):
        wait_until(lambda: self.connected() == count, f"{count} connected paths")

    def test_one_of_two_paths_cut_again_and_again(self):
        load = self.start()
        for _ in range(PATH_CUTS):
            load.wait_for_more(self.random.randrange(50, 400))
            self.random.choice(self.paths).cut()
            self.wait_connected(2)
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{PATH_CUTS} cuts"), CUT_STALL_S)

    def test_one_of_two_paths_flaps(self):
        load = self.start()
        for number in range(FLAPS):
            pause(FLAP_INTERVAL_S)
            path = self.paths[number % 2]
            path.accept() if number % 4 < 2 else path.refuse()
            path.cut()
        for path in self.paths:
            path.accept()
        self.wait_connected(2)
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{FLAPS} flaps"), CUT_STALL_S)

    def test_the_only_path_flaps(self):
        load = self.start(paths=1)
        for _ in range(FLAPS):
            pause(FLAP_INTERVAL_S)
            self.paths[0].cut()
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{FLAPS} flaps"), RECOVERY_STALL_S)

    def black_holes(self, direction):
        load = self.start()
        for number in range(BLACK_HOLES):
            load.wait_for_more()
            path = self.paths[number % 2]
            path.black_hole(direction)
            self.wait_connected(1)
            load.wait_for_more()  # over the other path, while this one stays dead
            path.heal()
            self.wait_connected(2)
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{BLACK_HOLES} black holes"), BLACK_HOLE_STALL_S)

    def test_one_of_two_paths_is_a_black_hole(self):
        self.black_holes("both")

    def test_one_of_two_paths_is_a_black_hole_towards_the_server(self):
        self.black_holes("up")

    def test_one_of_two_paths_is_a_black_hole_towards_the_client(self):
        self.black_holes("down")

    def test_writes_delayed_in_the_network_never_land_late(self):
        """What one path's network held is delivered long after the other path took over."""
        load = self.start()
        for number in range(HELD_WRITES):
            load.wait_for_more()
            path = self.paths[number % 2]
            path.hold()
            wait_until(path.held_bytes, "something to be held")
            path.cut_client()
            load.wait_for_more()  # the writes were sent again on the other path, and others after them
            path.deliver()
            load.wait_for_more()
            self.wait_connected(2)
        self.assert_stall(load.finish(note=f"{HELD_WRITES} deliveries"), BLACK_HOLE_STALL_S)

    def test_a_path_that_refuses_or_never_answers_does_not_hold_the_other_up(self):
        load = self.start(client_extra='connect_timeout = "500ms"\n')
        for broken in (Proxy.refuse, Proxy.accept_silently):
            broken(self.paths[0])
            self.paths[0].cut()
            self.wait_connected(1)
            load.wait_for_more(500)
            self.paths[0].accept()
            self.wait_connected(2)
        self.assert_stall(load.finish(), BLACK_HOLE_STALL_S)

    def test_half_closed_streams_are_given_up_and_made_anew(self):
        load = self.start()
        for direction in ("up", "down"):
            before = self.paths[0].accepted
            self.paths[0].half_close(direction)
            wait_until(lambda: self.paths[0].accepted > before, "new connections")
            self.wait_connected(2)
            load.wait_for_more()
        self.assert_stall(load.finish(), BLACK_HOLE_STALL_S)

    def test_slow_thin_and_chopped_paths_carry_everything(self):
        load = self.start(paths=1)
        for shape in ({"delay_s": 0.03}, {"bytes_per_s": 4 << 20}, {"segment": 11}, {"segment": 1460, "delay_s": 0.01}):
            self.paths[0].shape(**shape)
            load.wait_for_more(100)
        self.paths[0].shape()
        load.wait_for_more()
        self.assert_stall(load.finish(), RECOVERY_STALL_S)

    def test_all_paths_cut_at_once(self):
        load = self.start()
        for _ in range(PATH_CUTS):
            load.wait_for_more(self.random.randrange(50, 400))
            for path in self.paths:
                path.cut()
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{PATH_CUTS} cuts"), RECOVERY_STALL_S)


if __name__ == "__main__":
    import unittest
    unittest.main()
