"""Daemons killed with SIGKILL again and again under load, and started anew: no error, nothing stale."""
from bounds import CLIENT_KILLS, RESTART_STALL_S, SEED, SERVER_KILLS
from faults import Faults, Stamp


class Killed(Faults):
    def test_server_killed_and_restarted(self):
        self.both()
        load = Stamp(self, self.volumes_on(), f"--seed={SEED}")
        for _ in range(SERVER_KILLS):
            load.wait_for_more()
            self.server.kill()
            self.restart_server()
        load.wait_for_more()
        self.assert_stall(load.finish(note=f"{SERVER_KILLS} kills"), RESTART_STALL_S)

    def test_client_killed_and_restarted(self):
        """The application connects again; what was under way is of unknown fate, and never comes late."""
        self.both()
        load = Stamp(self, self.volumes_on(), f"--seed={SEED}", "--reconnect")
        for _ in range(CLIENT_KILLS):
            load.wait_for_more()
            self.client.kill()
            self.restart_client()
        load.wait_for_more()
        summary = load.finish(note=f"{CLIENT_KILLS} kills")
        self.assertGreaterEqual(summary["reconnects"], CLIENT_KILLS)
        self.assert_stall(summary, RESTART_STALL_S)


if __name__ == "__main__":
    import unittest
    unittest.main()
