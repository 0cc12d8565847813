"""What is told of running daemons: latencies by stage, counters and their reset, the stream of events."""
import json
import socket
import unittest

from harness import MIB, EndToEnd, run

# Nothing is lost here but what the test takes away.
PATIENT = 'fast_heartbeat_interval = "30s"\n'
COUNTERS = ("reads", "read_bytes", "writes", "write_bytes", "errors", "reconnects")
QUICK = 'reconnect_delay = "50ms"\nreconnect_delay_max = "500ms"\n'


class EventReader:
    """Reads the stream as any program may: a line of JSON each."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r")
        self.socket.sendall(b'{"version":1,"command":"events"}\n')
        assert json.loads(self.lines.readline())["ok"]

    def until(self, name):
        """Names of the events up to one of this name, and that event."""
        seen = []
        while True:
            message = json.loads(self.lines.readline())
            assert message["version"] == 1
            seen.append(message["event"]["event"])
            if seen[-1] == name:
                return seen, message["event"]

    def close(self):
        self.lines.close()
        self.socket.close()


class Metrics(EndToEnd):
    def both(self):
        self.start_server(extra=PATIENT)
        self.start_client(extra=PATIENT + QUICK)
        self.volume("disk0", 64 * MIB)

    def map(self):
        return self.rnbd_json("map", "sessname=s1", f"dest_port={self.port}", "path=ip:127.0.0.1",
                              "device_path=disk0")["devices"][0]

    def reads(self, uri, count):
        run("nbdsh", "-u", uri, "-c", f"for i in range({count}): h.pread(4096, i * 4096)", timeout=60)

    @staticmethod
    def stages(view):
        return {stage["stage"]: stage for stage in view["stages"]}

    def test_latencies_are_told_by_stage_for_device_session_and_path(self):
        self.both()
        uri = self.map()["nbd"]
        self.reads(uri, 200)
        answer = self.rnbd_json("show", "rnbd0")
        device = self.stages(answer["devices"][0])
        self.assertGreaterEqual(device["wire"]["count"], 200)
        self.assertEqual(device["wire"]["count"], device["queue"]["count"])
        answer = self.rnbd_json("list", "sessions")
        session = answer["sessions"][0]
        path = self.stages(session["paths"][0])
        self.assertEqual(self.stages(session)["wire"]["count"], path["wire"]["count"])
        self.assertGreaterEqual(path["wire"]["count"], 200)
        for stage in (device["wire"], path["wire"]):
            order = [stage[key] for key in ("p50_us", "p90_us", "p99_us", "p999_us", "max_us")]
            self.assertEqual(order, sorted(order))
            self.assertGreater(stage["sum_us"], 0)
        server = self.server_json("list", "sessions")["sessions"][0]
        self.assertEqual([session[key] for key in COUNTERS], [session["paths"][0][key] for key in COUNTERS])
        self.assertGreaterEqual(min(session["reads"], server["reads"]), 200)
        self.assertGreaterEqual(min(session["read_bytes"], server["read_bytes"]), 200 * 4096)
        for view in (server, server["paths"][0]):
            self.assertEqual(set(self.stages(view)), {"server", "backend"})
            self.assertGreaterEqual(self.stages(view)["backend"]["count"], 200)

    def test_events_come_as_they_happen_and_name_what_they_are_of(self):
        self.both()
        client, server = (EventReader(self.dir / f"{name}-admin.sock") for name in ("client", "server"))
        try:
            self.map()
            seen, mapped = client.until("volume_mapped")
            for name in ("volume_mapping", "path_connected", "session_connected", "volume_open"):
                self.assertIn(name, seen)
            self.assertEqual((mapped["session"], mapped["volume"], mapped["device"], mapped["level"]),
                             ("s1", "disk0", "rnbd0", "info"))
            _, opened = server.until("volume_opened")
            self.assertEqual((opened["session"], opened["volume"]), ("s1", "disk0"))
            self.server.kill()
            _, lost = client.until("path_lost")
            self.assertEqual((lost["session"], lost["level"]), ("s1", "warning"))
            self.assertTrue(lost["path"])
            self.assertIn("since=", lost["text"])
            _, gone = client.until("session_disconnected")
            self.assertEqual(gone["session"], "s1")
            self.start_server(extra=PATIENT)
            _, again = client.until("volume_open")
            self.assertIn("since=", again["text"])
        finally:
            client.close()
            server.close()


if __name__ == "__main__":
    unittest.main()
