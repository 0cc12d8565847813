"""Words: the kernel's line, URIs, listings, and one clear line with a documented exit code for every mistake."""
import json
import subprocess
import time

from harness import BIN, MIB, EndToEnd, free_port, run


class Mapping(EndToEnd):
    def setUp(self):
        super().setUp()
        self.start_server()
        self.start_client()
        self.volume("disk0", 16 * MIB)
        self.volume("dir/disk1", 16 * MIB)

    def test_the_kernels_line_word_for_word_with_an_absolute_path(self):
        self.rnbd("client", "map", "sessname=blya", f"dest_port={self.port}", "path=ip:127.0.0.1", "device_path=/disk0")
        device = self.devices()[0]
        self.assertEqual((device["name"], device["session"], device["volume"], device["state"]),
                         ("rnbd0", "blya", "/disk0", "open"))
        self.rnbd("unmap", "rnbd0")
        self.assertEqual(self.devices(), [])

    def test_the_kernels_line_as_one_quoted_word(self):
        self.rnbd("map", f"sessname=blya dest_port={self.port} path=ip:127.0.0.1 device_path=disk0 access_mode=ro")
        self.assertEqual(self.devices()[0]["access_mode"], "ro")

    def test_a_uri_maps_and_the_same_uri_unmaps(self):
        uri = f"rnbd://127.0.0.1:{self.port}/dir/disk1"
        self.rnbd("map", uri)
        self.assertEqual(self.devices()[0]["size"], 16 * MIB)
        self.rnbd("unmap", uri)
        self.assertEqual(self.devices(), [])

    def test_a_host_name_in_a_uri_is_resolved(self):
        self.rnbd("map", f"rnbd://localhost:{self.port}/disk0")
        self.assertEqual(len(self.devices()), 1)

    def test_mapping_twice_shows_the_device_and_succeeds(self):
        self.map("disk0")
        again = self.map("disk0")
        self.assertEqual(again["name"], "rnbd0")
        self.assertEqual(len(self.devices()), 1)

    def test_two_volumes_share_a_session(self):
        self.map("disk0")
        self.rnbd("map", "sessname=e2e", "device_path=dir/disk1")  # the session exists: no path needed
        self.assertEqual({d["name"] for d in self.devices()}, {"rnbd0", "rnbd1"})
        self.assertEqual(len(self.server_json("list")["sessions"]), 1)

    def test_lists_are_tables_and_json(self):
        self.map("disk0")
        table = self.rnbd("list").stdout
        self.assertIn("rnbd0", table)
        self.assertIn("disk0", table)
        self.assertEqual(json.loads(self.rnbd("-o", "json", "list").stdout)["version"], 1)
        shown = self.rnbd("show", "rnbd0").stdout
        self.assertIn("disk0", shown)
        server = self.rnbd("server", "list", socket=self.dir / "server-admin.sock").stdout
        self.assertIn("e2e", server)
        opens = self.server_json("list")["opens"]
        self.assertEqual((opens[0]["volume"], opens[0]["access_mode"]), ("disk0", "rw"))

    def expect(self, words, status, *texts):
        started = time.monotonic()
        result = self.rnbd(*words, check=False)
        message = result.stderr.strip()
        self.assertEqual(result.returncode, status, f"{words}: {result.stdout}{message}")
        self.assertEqual(len(message.splitlines()), 1, message)
        for text in texts:
            self.assertIn(text, message)
        self.assertLess(time.monotonic() - started, 12)

    def test_every_mistake_gets_one_clear_line_and_its_exit_code(self):
        there = [f"dest_port={self.port}", "path=ip:127.0.0.1"]
        self.expect(["map", "sessname=a", *there, "device_path=nosuch"], 3, "nosuch")
        self.expect(["map", "sessname=a", *there, "device_path=../etc/passwd"], 2, "..")
        self.expect(["map", "sessname=a", *there, "device_path=dir"], 1, "dir")
        self.expect(["map", "sessname=a", *there], 2, "device_path")
        self.expect(["map", *there, "device_path=disk0"], 2, "sessname")
        self.expect(["map", "sessname=a", *there, "device_path=disk0", "access_mode=wr"], 2, "access_mode", "migration")
        self.expect(["map", "sessname=a", "path=10.0.0.1", "device_path=disk0"], 2, "ip:")
        self.expect(["map", "sessname=a", "path=ip:1.2.3", "device_path=disk0"], 2, "1.2.3")
        self.expect(["map", "sessname=a/b", *there, "device_path=disk0"], 2, "a/b")
        self.expect(["map", "sessname=a", "dest_port=99999", "path=ip:127.0.0.1", "device_path=disk0"], 2, "dest_port")
        self.expect(["map", "sessname=nobody", "device_path=disk0"], 2, "path")
        self.expect(["map", "bogus=1", *there, "device_path=disk0"], 2, "bogus")
        self.expect(["map", "rnbd://"], 2, "rnbd://")
        self.expect(["unmap", "rnbd7"], 3, "rnbd7")
        self.expect(["show", "nosuch"], 3, "nosuch")
        self.expect(["mpa"], 2, "map")
        self.assertEqual(self.devices(), [])

    def test_nobody_listening_is_unreachable_with_the_peer_and_the_cause(self):
        port = free_port()
        self.expect(["map", "sessname=a", f"dest_port={port}", "path=ip:127.0.0.1", "device_path=disk0"], 6,
                    "127.0.0.1", str(port), "refused")

    def test_a_dead_address_fails_in_seconds_with_a_reason(self):
        # TEST-NET-1: never answers, or is unreachable at once, depending on the machine's routes.
        self.expect(["map", "sessname=a", "path=ip:192.0.2.1", "device_path=disk0"], 6, "192.0.2.1")

    def test_a_peer_that_is_not_rnbd_is_named_so(self):
        import socket
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            other = subprocess.Popen(["python3", "-c", f"""
import socket, sys
s = socket.socket(fileno={listener.fileno()})
while True:
    c, _ = s.accept()
    c.sendall(b"HTTP/1.1 400 Bad Request\\r\\n\\r\\n" * 40)
"""], pass_fds=[listener.fileno()])
            try:
                result = self.rnbd("map", "sessname=a", f"dest_port={listener.getsockname()[1]}", "path=ip:127.0.0.1",
                                   "device_path=disk0", check=False)
            finally:
                other.kill()
                other.wait()
        self.assertIn(result.returncode, (6, 8), result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)

    def test_a_second_writer_is_refused_and_readers_and_migration_are_not(self):
        self.start_client(name="second")
        self.map("disk0")
        refused = self.rnbd(*self.map_words("disk0", session="two"), check=False, client="second")
        self.assertEqual(refused.returncode, 5, refused.stderr)
        self.assertRegex(refused.stderr, "writ")
        self.assertEqual(self.map("disk0", session="two", mode="ro", client="second")["access_mode"], "ro")
        self.unmap("disk0", client="second")
        self.assertEqual(self.map("disk0", session="two", mode="migration", client="second")["state"], "open")

    def test_a_symbolic_link_out_of_the_directory_is_not_followed(self):
        (self.volumes / "escape").symlink_to("/etc/hostname")
        self.expect(["map", "sessname=a", f"dest_port={self.port}", "path=ip:127.0.0.1", "device_path=escape"], 5, "escape")


class Starting(EndToEnd):
    def failing(self, program, *argv, status):
        result = run(BIN / program, *argv, check=False)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertNotIn("terminate called", result.stderr)
        return result.stderr

    def test_a_misspelt_key_names_file_line_key_and_the_nearest(self):
        config = self.dir / "bad.toml"
        config.write_text('[server]\nport_nr = 1234\ndev_serach_path = "/srv"\n')
        text = self.failing("rnbd-server", "--config", config, status=9)
        for word in (str(config), "3", "dev_serach_path", "dev_search_path"):
            self.assertIn(word, text)

    def test_print_config_shows_every_default_and_is_itself_a_config(self):
        for program in ("rnbd-server", "rnbd-client"):
            printed = run(BIN / program, "--print-config").stdout
            config = self.dir / f"{program}.toml"
            config.write_text(printed)
            self.assertEqual(run(BIN / program, "--config", config, "--print-config").stdout, printed)

    def test_a_missing_directory_is_named(self):
        self.assertIn("/no/such/dir", self.failing("rnbd-server", "/no/such/dir", "--port", free_port(), status=9))

    def test_a_port_in_use_is_named(self):
        self.start_server()
        text = self.failing("rnbd-server", self.volumes, "--listen", "ip:127.0.0.1", "--port", self.port, status=1)
        self.assertIn(str(self.port), text)

    def test_no_daemon_is_said_with_the_socket_and_what_to_do(self):
        result = self.rnbd("list", check=False)
        self.assertEqual(result.returncode, 6, result.stderr)
        self.assertIn("client-admin.sock", result.stderr)
        self.assertIn("rnbd-client", result.stderr)


if __name__ == "__main__":
    import unittest
    unittest.main()
