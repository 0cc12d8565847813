"""Daemons that stand still (SIGSTOP), shorter and longer than the heartbeats allow, and go on where they were."""
import random

from bounds import FREEZE_S, FREEZES, RECOVERY_STALL_S, SEED
from faults import Faults, Stamp, pause
from proxy import Proxy


class Frozen(Faults):
    def freeze_again_and_again(self, who, paths=1):
        self.both()
        proxies = [Proxy(self.port, host=f"127.0.0.{2 + i}") for i in range(paths)]
        for proxy in proxies:
            self.addCleanup(proxy.close)
        load = Stamp(self, self.volumes_on(*proxies), f"--seed={SEED}")
        generator = random.Random(SEED)
        longest = 0.0
        for number in range(FREEZES):
            load.wait_for_more()
            # The shortest and the longest are always among them.
            seconds = FREEZE_S[number] if number < 2 else generator.uniform(*FREEZE_S)
            longest = max(longest, seconds)
            self.frozen(who(), seconds)
        load.wait_for_more()
        summary = load.finish(note=f"{FREEZES} times up to {longest:.1f} s")
        self.assert_stall(summary, longest + RECOVERY_STALL_S)

    def test_server_frozen(self):
        self.freeze_again_and_again(lambda: self.server)

    def test_server_frozen_with_two_paths(self):
        self.freeze_again_and_again(lambda: self.server, paths=2)

    def test_client_frozen(self):
        """The server gives the silent client up; what its sockets still hold when it wakes does no harm."""
        self.freeze_again_and_again(lambda: self.client)

    def test_client_frozen_with_two_paths(self):
        self.freeze_again_and_again(lambda: self.client, paths=2)

    def test_server_killed_while_frozen(self):
        self.both()
        load = Stamp(self, self.volumes_on(), f"--seed={SEED}")
        for _ in range(FREEZES):
            load.wait_for_more()
            with self.stopped(self.server):
                pause(FREEZE_S[0])
                self.server.kill()
            self.restart_server()
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{FREEZES} times"), FREEZE_S[0] + RECOVERY_STALL_S)


if __name__ == "__main__":
    import unittest
    unittest.main()
