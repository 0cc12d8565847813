"""What outlives a daemon and a reboot: the list of what is mapped; and reloading, which drops nothing."""
import json
import os
import re
import signal
import unittest

from harness import BIN, EndToEnd, run, wait_until

QUICK = 'reconnect_delay = "100ms"\nreconnect_delay_max = "500ms"\nconnect_timeout = "1s"\n'


class Service(EndToEnd):
    def setUp(self):
        super().setUp()
        for name in ("one", "two", "three"):
            self.volume(name, 1 << 20)
        self.start_server()
        self.start_client(extra=QUICK)

    def maps_file(self):
        return self.dir / "client-admin-maps.json"

    def remembered(self):
        return [entry["volume"] for entry in json.loads(self.maps_file().read_text())["maps"]]

    def mapped(self):
        return {device["volume"]: device for device in self.devices() if device["state"] == "open"}

    def restart_client(self):
        self.assertEqual(self.client.terminate(), 0)
        self.start_client(extra=QUICK)

    def test_what_is_mapped_is_mapped_again_and_the_rest_is_not(self):
        self.map("one")
        two = self.map("two", mode="ro")
        self.rnbd(*self.map_words("three"), "--once")
        self.rnbd("set", "rnbd1", "hold=77s")
        self.unmap("rnbd0")
        self.assertEqual(self.remembered(), ["two"])
        self.restart_client()
        wait_until(self.mapped, "the volume to be mapped again")
        self.assertEqual(list(self.mapped()), ["two"])
        again = self.mapped()["two"]
        self.assertEqual((again["name"], again["access_mode"], again["hold_us"]), (two["name"], "ro", 77_000_000))
        self.unmap("rnbd1")
        self.restart_client()
        self.assertEqual(self.devices(), [])

    def test_a_start_does_not_wait_for_servers_and_what_is_tried_can_be_unmapped(self):
        self.map("one")
        self.map("two")
        self.assertEqual(self.client.terminate(), 0)
        self.assertEqual(self.server.terminate(), 0)
        self.start_client(extra=QUICK)  # answers though nothing can be mapped
        wait_until(lambda: [bool(device["error"]) for device in self.devices()] == [True, True], "the reasons to be told")
        refused = self.rnbd(*self.map_words("one"), check=False)
        self.assertIn("it goes on trying until it is unmapped", refused.stderr)
        self.unmap("one@e2e")
        self.assertEqual(self.remembered(), ["two"])
        self.start_server()
        wait_until(self.mapped, "the other to be mapped")
        self.assertEqual(list(self.mapped()), ["two"])

    def test_a_machine_that_goes_down_does_not_wait_for_a_server_and_remembers_what_was_set(self):
        self.assertEqual(self.client.terminate(), 0)
        self.start_client(extra=QUICK + 'shutdown_timeout = "500ms"\non_stop = "leave"\n')
        self.map("one")
        self.map("two")
        self.rnbd("set", "rnbd1", "hold=77s")
        self.client.process.send_signal(signal.SIGPWR)
        wait_until(lambda: [d["hold_us"] for d in self.devices()] == [500_000, 500_000], "the waits to be bounded")
        self.assertEqual(len(self.mapped()), 2)  # its server is there: nothing happens to it
        self.assertEqual(self.server.terminate(), 0)
        wait_until(lambda: [d["state"] for d in self.devices()] == ["failed", "failed"], "the volumes to fail")
        self.assertEqual(self.client.terminate(), 0)
        self.assertNotIn("volumes are left to the next daemon", self.client.text())
        self.start_server()
        self.start_client(extra=QUICK)
        wait_until(lambda: len(self.mapped()) == 2, "both to be mapped again")
        self.assertEqual([self.mapped()[name]["hold_us"] for name in ("one", "two")], [0, 77_000_000])

    def test_a_killed_daemon_forgets_nothing(self):
        self.map("one")
        self.client.kill()
        (self.dir / "client-state.json").unlink()  # as after a reboot
        self.start_client(extra=QUICK)
        wait_until(self.mapped, "the volume to be mapped again")

    def test_a_damaged_list_is_told_and_set_aside(self):
        self.map("one")
        self.assertEqual(self.client.terminate(), 0)
        self.maps_file().write_text(self.maps_file().read_text().replace('"one"', '"two"'))
        self.start_client(extra=QUICK)
        self.assertEqual(self.devices(), [])
        self.assertIn("its checksum is wrong", self.client.text())
        self.assertTrue(self.maps_file().with_suffix(".json.bad").exists())

    def test_reloading_serves_new_exports_and_drops_nothing(self):
        self.map("one")
        config = self.dir / "server.toml"
        extra = self.dir / "elsewhere"
        extra.write_bytes(bytes(1 << 20))
        text = config.read_text()
        config.write_text(text.replace(f"port_nr = {self.port}", "port_nr = 1") + f'\n[[export]]\nname = "new"\nfile = "{extra}"\n')
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "counts from the next start on: port_nr" in self.server.text(), "the server to say what it cannot")
        self.assertIn("configuration read again: [[export]]", self.server.text())
        self.map("new")
        self.assertEqual(set(self.mapped()), {"one", "new"})
        config.write_text("[server]\nnonsense = 1\n")
        self.server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "the configuration stays as it was" in self.server.text(), "the server to refuse")
        self.assertEqual(set(self.mapped()), {"one", "new"})

    def test_the_client_takes_over_what_can_change(self):
        self.map("one")
        config = self.dir / "client.toml"
        config.write_text(config.read_text() + 'hold_timeout = "33s"\nnbd_tcp = true\n')
        self.client.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "counts from the next start on: nbd_tcp" in self.client.text(), "the client to say what it cannot")
        wait_until(lambda: self.mapped()["one"]["hold_us"] == 33_000_000, "the volume to have the new value")


class Environment(unittest.TestCase):
    def level(self, program, *options, **variables):
        text = run(BIN / program, "--print-config", *options, env={**os.environ, "RNBD_CONFIG": "/dev/null", **variables}).stdout
        return re.search(r'(?m)^level = "(\w+)"', text).group(1)

    def test_rnbd_debug_makes_the_daemons_talk_unless_an_option_says_otherwise(self):
        for program in ("rnbd-server", "rnbd-client"):
            self.assertEqual(self.level(program), "info")
            self.assertEqual(self.level(program, RNBD_DEBUG="1"), "debug")
            self.assertEqual(self.level(program, "--log-level=error", RNBD_DEBUG="1"), "error")


if __name__ == "__main__":
    unittest.main()
