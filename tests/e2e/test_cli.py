"""The command line against real daemons: both at once, the old tool's shapes, streams, rnbdtab, completion, its own help."""
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import unittest
from pathlib import Path

from harness import BIN, EndToEnd, MIB, need, run, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
RNBD = BIN / "rnbd"


class Both(EndToEnd):
    """rnbd-server and rnbd-client on one machine, found through one configuration."""

    def setUp(self):
        super().setUp()
        self.volume("disk0", 16 * MIB)
        self.volume("disk1", 32 * MIB)
        self.start_server()
        self.start_client()
        self.config = self.dir / "both.toml"
        self.config.write_text(f'[client]\nadmin_socket = "{self.dir}/client-admin.sock"\n'
                               f'[server]\nadmin_socket = "{self.dir}/server-admin.sock"\n')

    def cli(self, *words, check=True, **keywords):
        return run(RNBD, f"--config={self.config}", *words, check=check, **keywords)

    def cli_json(self, *words):
        return json.loads(self.cli(*words, "-o", "json").stdout)

    def status(self, *words, **keywords):
        return self.cli(*words, check=False, **keywords).returncode

    def start_cli(self, *words):
        process = subprocess.Popen([RNBD, f"--config={self.config}", *words], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (process.poll() is None and process.kill(), process.communicate()))
        return process


class Showing(Both):
    def setUp(self):
        super().setUp()
        self.map("disk0", session="a@b")
        self.map("disk1", session="a@b")

    def test_a_name_of_both_daemons_is_shown_as_both(self):
        both = self.cli_json("show", "a@b")
        self.assertEqual(both["daemon"]["program"], "rnbd-client")
        self.assertEqual([d["name"] for d in both["devices"]], ["rnbd0", "rnbd1"])
        self.assertEqual(both["server"]["daemon"]["program"], "rnbd-server")
        self.assertEqual([o["volume"] for o in both["server"]["opens"]], ["disk0", "disk1"])
        self.assertNotIn("server", self.cli_json("client", "show", "a@b"))
        self.assertNotIn("server", self.cli_json("show", "rnbd0"))
        self.assertEqual(self.cli("show", "a@b").stdout.count("session:             a@b"), 6)

    def test_without_a_mode_a_command_of_both_goes_where_its_name_is(self):
        self.assertEqual(self.cli("reset", "a@b", check=False).returncode, 2)
        self.assertIn("rnbd client reset", self.cli("reset", "a@b", check=False).stderr)

    def test_dump_and_tree_tell_of_both_and_the_client_that_ended_leaves_the_server(self):
        self.assertEqual(self.cli_json("dump")["server"]["opens"][0]["session"], "a@b")
        tree = self.cli("tree").stdout
        self.assertRegex(tree, r"(?m)^a@b  connected  U$")
        self.assertRegex(tree, r"(?m)^\|- rnbd0  disk0  16M  rw  open$")
        self.assertRegex(tree, r"(?m)^`- disk1  32M  rw")
        self.client.terminate()
        self.assertEqual(self.cli_json("list")["daemon"]["program"], "rnbd-server")
        self.assertEqual(self.status("ping"), 0)
        self.assertEqual(self.status("client", "ping"), 6)

    def test_columns_units_totals_and_headers_are_chosen(self):
        self.assertEqual(self.cli("list", "devname,size", "B").stdout,
                         "NAME        SIZE\nrnbd0  16777216B\nrnbd1  33554432B\n" + "-" * 16 + "\n       50331648B\n")
        self.assertEqual(self.cli("list", "name", "noheaders").stdout, "rnbd0\nrnbd1\n")
        self.assertEqual(self.cli("list", "name,volume", "-o", "csv").stdout,
                         '"name","volume"\n"rnbd0","disk0"\n"rnbd1","disk1"\n')
        self.assertEqual(len(self.cli("server", "list", "-o", "csv").stdout.splitlines()), 3)  # one table
        self.assertNotIn("USERS", self.cli("list", "-users").stdout)
        self.assertEqual(self.cli("list", "sessions", "sessname,path_uu").stdout.splitlines()[1].split(), ["a@b", "U"])
        self.assertIn("'size'", self.cli("list", "--fields=sise", check=False).stderr)
        self.assertEqual(self.status("list", "sise"), 2)
        self.assertIn("did you mean 'devname,size'?", self.cli("list", "devnam,size", check=False).stderr)
        self.assertIn("did you mean '+error'?", self.cli("list", "+eror", check=False).stderr)

    def test_paths_have_the_numbers_that_name_them_on_both_ends(self):
        for side in ("client", "server"):
            self.assertEqual(self.cli(side, "list", "paths", "session,number", "noheaders").stdout.split(), ["a@b", "1"])
            self.assertEqual(self.cli(side, "show", "path", "a@b", "1").stdout.count("path:"), 1)
        self.assertEqual(self.status("show", "path", "a@b", "2"), 2)
        self.cli("server", "disconnect", "a@b", "1")

    def test_a_kind_alone_is_listed_and_shown_alone(self):
        for words in (("sessions",), ("client", "session")):
            self.assertEqual(self.cli(*words).stdout, self.cli("client", "list", "sessions").stdout)
        self.assertEqual(self.cli("server", "paths").stdout, self.cli("server", "list", "paths").stdout)
        shown = self.cli("client", "session", "show").stdout
        self.assertIn("session:             a@b", shown)
        self.assertNotIn("rnbd0", shown)

    def test_bare_words_print_the_old_tools_shape(self):
        text = self.cli("list", "devname,mapping_path,size", "json").stdout
        self.assertIn('\n\t"imports": [', text)
        old = json.loads(self.cli("client", "list", "devname,size", "json").stdout)
        self.assertEqual(old, {"imports": [{"devname": "rnbd0", "size": 16 * MIB}, {"devname": "rnbd1", "size": 32 * MIB}]})
        names = json.loads(self.cli("list", "mapping_path", "json").stdout)
        self.assertEqual([x["mapping_path"] for x in names["exports"]], ["disk0", "disk1"])
        self.unmap("rnbd0")
        self.unmap("rnbd1")
        self.assertEqual(json.loads(self.cli("list", "mapping_path", "json").stdout), {"imports": None, "exports": None})
        self.map("disk0")
        self.assertIn('<devname>"rnbd0"</devname>', self.cli("list", "devname", "xml").stdout)

    def test_every_structured_form_says_the_same(self):
        lines = [json.loads(x) for x in self.cli("dump", "-o", "jsonl").stdout.splitlines()]
        self.assertEqual({(x["version"], x["type"], x["program"]) for x in lines},
                         {(1, "device", "rnbd-client"), (1, "session", "rnbd-client"), (1, "session", "rnbd-server"),
                          (1, "open", "rnbd-server")})
        yaml = self.cli("list", "-o", "yaml").stdout
        self.assertIn('devices:\n  - name: "rnbd0"\n', yaml)
        result = run(RNBD, f"--config={self.config}", "list", env=os.environ | {"RNBD_OUTPUT": "jsonl"})
        self.assertEqual(json.loads(result.stdout.splitlines()[0])["name"], "rnbd0")

    def test_what_is_documented_is_there(self):
        documented = (ROOT / "docs/cli.md").read_text()
        schema = documented[documented.index("```text\nversion, ok"):]
        words = set(re.findall(r"\w+", schema[:schema.index("```", 4)]))

        def keys(value):
            if isinstance(value, dict):
                return set(value) | set().union(*map(keys, value.values()), set())
            return set().union(*map(keys, value), set()) if isinstance(value, list) else set()
        self.assertEqual(keys(self.cli_json("dump")) - words, set())


class PlainWords(Both):
    """map VOLUME from SERVER"""

    def test_a_server_has_a_port_in_whatever_way_it_is_said(self):
        for words in ([f"127.0.0.1:{self.port}"], ["127.0.0.1", f"dest_port={self.port}"], [f"localhost:{self.port}"],
                      ["ip:127.0.0.1", f"dest_port={self.port}", "sessname=s"]):
            self.cli("map", "disk0", "from", *words, "ro")
            self.assertEqual(self.status("map", "disk0", "from", *words, "ro", "--exclusive"), 4, words)
            self.cli("unmap", "disk0", "from", *words)
            self.assertIn("is not mapped", self.cli("unmap", "disk0", "from", *words).stdout)

    def test_a_server_may_be_a_session_that_there_is(self):
        for session in ("a@b", "blya"):
            self.assertIn(self.status("map", "disk1", "from", session), (2, 6))  # neither a session nor a host
            self.map("disk0", session=session)
            self.cli("map", "disk1", "from", session, "ro")
            self.assertEqual(self.cli("list", "volume,session", "noheaders").stdout.split(), ["disk0", session, "disk1", session])
            self.assertIn("rnbd1", self.cli("show", "disk1", "from", session).stdout)
            self.cli("unmap", "disk1", "from", session)
            self.unmap("rnbd0")


class Mapping(Both):
    def uri(self, volume="disk0"):
        return f"rnbd://127.0.0.1:{self.port}/{volume}"

    def test_the_words_that_map_also_unmap_however_often(self):
        for words in ([self.uri()], [f"sessname=s dest_port={self.port} path=ip:127.0.0.1 device_path=disk0"]):
            self.cli("map", *words)
            self.cli("map", *words)
            self.assertEqual(self.status("map", *words, "--exclusive"), 4)
            self.assertIn("is unmapped", self.cli("unmap", *words).stdout)
            self.assertIn("is not mapped", self.cli("unmap", *words).stdout)
            self.assertTrue(self.cli_json("unmap", *words)["already"])
            self.assertEqual(self.status("unmap", *words, "--exclusive"), 3)

    def test_a_dry_run_does_nothing(self):
        self.assertIn("would map", self.cli("map", self.uri(), "-n").stdout)
        self.assertIn("would unmap", self.cli("unmap", "rnbd0", "--dry-run").stdout)
        self.assertEqual(self.devices(), [])

    def test_wait_outlasts_a_server_that_is_not_there_yet(self):
        self.server.terminate()
        self.assertEqual(self.status("map", self.uri(), "-q"), 6)
        waiting = self.start_cli("map", self.uri(), "--wait", "--timeout=60s")
        wait_until(lambda: self.client.text().count("refused") > 1, "a second attempt")
        self.assertIsNone(waiting.poll())
        self.start_server()
        out, err = waiting.communicate(timeout=60)
        self.assertEqual(waiting.returncode, 0, err)
        self.assertIn("is mapped as rnbd0", out)

    def test_exit_statuses_are_of_the_table_or_errnos(self):
        self.assertEqual(self.status("unmap", "rnbd7"), 3)
        self.assertEqual(self.status("unmap", "rnbd7", "--errno-exit"), 256 - 2)
        compat = self.dir / "rnbd-compat"
        compat.symlink_to(RNBD)
        self.assertEqual(run(compat, "unmpa", check=False).returncode, 256 - 22)
        self.assertEqual(run(compat, "help").returncode, 0)
        self.assertEqual(run(RNBD, "--help").returncode, 0)

    def on_a_terminal(self, *words, until=None, then=None):
        """What a person sees on standard error; then() is called when it has `until` in it."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        process = subprocess.Popen([RNBD, f"--config={self.config}", *words], stdout=subprocess.DEVNULL, stderr=slave)
        os.close(slave)
        seen = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # how a terminal ends on Linux
                break
            if not part:
                break
            seen += part
            if until and re.search(until, seen):
                until = None
                then()
        process.wait(60)
        return seen.decode()

    def test_what_takes_long_says_what_it_waits_for(self):
        self.client.terminate()
        self.start_client(extra='connect_timeout = "60s"\n')
        silent = socket.create_server(("127.0.0.1", 0))
        words = ["map", "sessname=s", f"dest_port={silent.getsockname()[1]}", "path=ip:127.0.0.1", "device_path=disk0"]
        told = r"mapping disk0: connecting to ip:127\.0\.0\.1 \(\d+ s of 60 s\)"
        with silent:
            seen = self.on_a_terminal(*words, until=told.encode(), then=silent.close)  # which resets who waits there
            self.assertRegex(seen, told)
            self.assertRegex(seen, r"\r\033\[Krnbd: [^\r\n]*\r\n$")  # wiped before the problem is said
        self.client.terminate()
        self.start_client(extra='connect_timeout = "2s"\n')
        with socket.create_server(("127.0.0.1", 0)) as silent:
            words[2] = f"dest_port={silent.getsockname()[1]}"
            self.assertNotIn("connecting to", self.on_a_terminal(*words, "-q").split("rnbd: ")[0])
            self.assertEqual(len(self.cli(*words, check=False).stderr.splitlines()), 1)

    def test_a_broken_configuration_is_said_when_it_was_named(self):
        self.config.write_text("[client]\nadmin_sokcet = 1\n")
        self.assertEqual(self.status("list"), 9)
        found = json.loads(self.cli("doctor", "-o", "json", check=False).stdout)
        self.assertIn("admin_sokcet", [f["text"] for f in found["findings"] if f["check"] == "config"][0])


class Streams(Both):
    def setUp(self):
        super().setUp()
        self.uri = self.map("disk0")["nbd"]

    def test_top_in_batch_prints_a_line_of_json_per_sample(self):
        need("nbdsh")
        top = self.start_cli("top", "--batch", "-n", "3", "-d", "300ms")
        run("nbdsh", "-u", self.uri, "-c", "for i in range(64): h.pwrite(bytes(4096), i * 4096)")
        out, err = top.communicate(timeout=60)
        self.assertEqual(top.returncode, 0, err)
        samples = [json.loads(x) for x in out.splitlines()]
        self.assertEqual(len(samples), 3)
        for sample in samples:
            self.assertEqual(sample["version"], 1)
            self.assertRegex(sample["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            self.assertEqual([d["name"] for d in sample["devices"]], ["rnbd0"])
            self.assertEqual({o["program"] for o in sample["opens"]}, {"rnbd-server"})
            self.assertEqual(len(sample["sessions"]), 2)
            self.assertEqual(len(sample["paths"]), 2)
        self.assertEqual({s["stage"] for s in samples[-1]["devices"][0]["stages"]}, {"queue", "wire"})

    def test_top_without_a_terminal_is_text_and_names_narrow_it(self):
        text = self.cli("top", "devices", "rnbd0", "-n", "1", "-d", "100ms").stdout
        self.assertIn("rnbd0 disk0", text)
        self.assertNotIn("\033", text)
        self.assertNotIn("SESSION", text)
        self.map("disk1")
        text = self.cli("top", "devices", "rnbd0", "rnbd1", "-n", "1", "-d", "100ms").stdout
        self.assertTrue("rnbd0 disk0" in text and "rnbd1 disk1" in text, text)
        self.assertEqual(self.status("top", "rnbd0", "nosuch", "-n", "1"), 3)

    def on_a_terminal(self, end):
        """Runs top on one until it has drawn, then end(); what it wrote, and the terminal's modes before and after."""
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        process = subprocess.Popen([RNBD, f"--config={self.config}", "top", "-d", "100ms"], stdin=slave, stdout=slave,
                                   stderr=slave, start_new_session=True)
        self.addCleanup(lambda: (process.kill(), process.wait()))
        output = b""

        def read():
            nonlocal output
            while select.select([master], [], [], 0)[0]:
                output += os.read(master, 65536)
            return output
        wait_until(lambda: b"rnbd0" in read(), "a picture")
        end(process, master)
        wait_until(lambda: read() is not None and process.poll() is not None, "top to end")
        after = termios.tcgetattr(slave)
        read()
        os.close(master)
        os.close(slave)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(before, after)
        self.assertTrue(output.rstrip().endswith(b"\033[?1049l"), output[-100:])
        return output

    def test_top_leaves_the_terminal_as_it_was(self):
        self.on_a_terminal(lambda process, master: process.send_signal(signal.SIGINT))
        self.on_a_terminal(lambda process, master: os.write(master, b"q"))

    def test_events_stream_until_so_many_came_or_a_signal_does(self):
        def cause(until):
            self.map("disk1")
            self.rnbd("unmap", "disk1")
            return until()
        events = self.start_cli("events", "-o", "jsonl", "--count=2")
        wait_until(lambda: cause(lambda: events.poll() is not None), "two events")
        out, err = events.communicate(timeout=60)
        self.assertEqual(events.returncode, 0, err)
        self.assertEqual(len(out.splitlines()), 2)
        for line in out.splitlines():
            event = json.loads(line)
            self.assertEqual(event["version"], 1)
            self.assertEqual(set(event["event"]), {"time", "level", "event", "device", "session", "volume", "path", "text"})
        text = self.start_cli("server", "events")
        told = b""

        def opened():
            nonlocal told
            while select.select([text.stdout], [], [], 0)[0] and text.poll() is None:
                told += os.read(text.stdout.fileno(), 65536)
            return re.search(rb"(?m)^\d{4}-\S+ +info +volume_opened ", told)
        # The stream may begin between the opening of a volume and its closing.
        wait_until(lambda: cause(opened), "the server to tell of an open volume")
        text.send_signal(signal.SIGTERM)
        out, err = text.communicate(timeout=60)
        self.assertEqual(text.returncode, 0, err)


class Table(Both):
    def setUp(self):
        super().setUp()
        self.tab = self.dir / "rnbdtab"

    def write(self, *lines):
        self.tab.write_text("".join(line + "\n" for line in lines))

    def line(self, volume, options="", paths=("127.0.0.1",)):
        words = " ".join(f"path=ip:{p}" for p in paths)
        return f"{volume} sessname=t dest_port={self.port} {words} device_path={volume} {options}".rstrip()

    def test_apply_maps_what_is_missing_and_then_there_is_no_difference(self):
        self.write("# ours", self.line("disk0", "hold=5m,policy=round-robin"), self.line("disk1", "noauto"))
        told = self.cli("diff", self.tab, check=False)
        self.assertEqual((told.returncode, self.devices()), (1, []))
        self.assertIn("disk0: would map disk0 of session t", told.stdout)
        self.assertIn("it is rnbd0", self.cli("apply", self.tab).stdout)
        device = self.devices()[0]
        self.assertEqual((device["volume"], device["hold_us"]), ("disk0", 300_000_000))
        self.assertEqual(self.cli_json("list")["sessions"][0]["policy"], "round-robin")
        self.assertEqual(self.cli("diff", self.tab).stdout, "nothing to do\n")
        self.assertIn("it is rnbd1", self.cli("apply", self.tab, "disk1").stdout)

    def test_what_can_be_changed_while_in_use_is_and_an_access_mode_is_not(self):
        self.write(self.line("disk0"))
        self.cli("apply", self.tab)
        self.write(self.line("disk0", "hold=1m", paths=("127.0.0.1", "127.0.0.2")))
        self.server.terminate()
        wait_until(lambda: self.devices()[0]["state"] != "open", "the loss of the server")
        self.start_server(listen='["ip:127.0.0.1", "ip:127.0.0.2"]')
        wait_until(lambda: self.devices()[0]["state"] == "open", "the server to be back")
        self.cli("apply", self.tab)
        self.assertEqual(self.devices()[0]["hold_us"], 60_000_000)
        self.assertEqual(len(self.cli_json("list")["sessions"][0]["paths"]), 2)
        self.write(self.line("disk0", "ro", paths=("127.0.0.1", "127.0.0.2")))
        refused = self.cli("apply", self.tab, check=False)
        self.assertEqual(refused.returncode, 4, refused.stderr)
        self.assertIn("is rw, should be ro", refused.stderr)
        self.assertIn("--force", refused.stderr)
        self.cli("apply", self.tab, "--force")
        self.assertEqual(self.devices()[0]["access_mode"], "ro")

    def test_prune_takes_what_is_not_listed_unless_it_is_in_use(self):
        need("nbdsh")
        uri = self.map("disk0", session="t")["nbd"]
        self.write(self.line("disk1"))
        holder = subprocess.Popen(["nbdsh", "-u", uri, "-c", "import sys; print('open', flush=True); sys.stdin.read()"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (holder.kill(), holder.communicate()))
        self.assertEqual(holder.stdout.readline(), "open\n")
        result = self.cli("apply", self.tab, "--prune", check=False)
        self.assertEqual(result.returncode, 7, result.stdout + result.stderr)
        self.assertIn("not listed, but in use", result.stderr)
        self.assertEqual({d["volume"] for d in self.devices()}, {"disk0", "disk1"})
        holder.communicate("")
        wait_until(lambda: all(d["users"] == 0 for d in self.devices()), "the holder to be gone")
        changes = self.cli_json("apply", self.tab, "--prune")
        self.assertEqual([(c["action"], c["done"]) for c in changes["changes"]], [("unmap", True)])
        self.assertEqual([d["volume"] for d in self.devices()], ["disk1"])

    def test_mistakes_are_told(self):
        self.assertEqual(self.status("apply", "/nonexistent/rnbdtab"), 9)
        self.write("disk0 rnbd://10.0.0.1/v nonsense")
        self.assertEqual(self.status("diff", self.tab), 9)
        self.write(self.line("disk0"))
        self.assertEqual(self.status("apply", self.tab, "dsik0"), 3)
        self.assertEqual(self.status("apply", self.tab, "disk0", "--prune"), 2)
        self.write(self.line("disk0"), self.line("nosuch"), self.line("nosuch2", "nofail"))
        result = self.cli("apply", self.tab, check=False)
        self.assertEqual(result.returncode, 7, result.stderr)
        self.assertEqual(len(result.stderr.strip().splitlines()), 2)


class Doctor(Both):
    def test_it_finds_what_is_wrong_and_says_what_to_do(self):
        self.map("disk0", session="a@b")
        report = json.loads(self.cli("doctor", "-o", "json", check=False).stdout)
        texts = [f["text"] for f in report["findings"]]
        self.assertIn(f"{self.config} is understood", texts)
        self.assertTrue(any("session a@b" in t and "is connected" in t for t in texts), texts)
        self.assertTrue(any(t.startswith("127.0.0.1 goes over lo with MTU") for t in texts), texts)
        for finding in report["findings"]:
            self.assertTrue(finding["advice"] or finding["severity"] != "error", finding)
        self.server.terminate()
        wait_until(lambda: self.devices()[0]["state"] != "open", "the loss of the server")
        result = self.cli("doctor", "-q", check=False)
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertRegex(result.stdout, rf"error +reach +127\.0\.0\.1 port {self.port}: Connection refused")

    def test_an_address_named_is_tried(self):
        address = f"127.0.0.1:{self.port}"
        self.assertIn("takes connections", self.cli("doctor", address, check=False).stdout)
        self.map("disk0", session="a@b")
        self.assertIn(f"127.0.0.1 port {self.port} is where a path is connected to",
                      self.cli("doctor", address, check=False).stdout)


class Shells(unittest.TestCase):
    def complete(self, line):
        """What bash offers for the word at the end of the line."""
        script = ('source <("$1" completion bash); COMP_LINE=$2; COMP_POINT=${#2}; read -ra COMP_WORDS <<<"$2"; '
                  '[[ $2 != *" " ]] || COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; '
                  '_rnbd; printf "%s\\n" "${COMPREPLY[@]}"')
        return run("bash", "-c", script, "bash", RNBD, line).stdout.split()

    def test_bash_completes_commands_options_and_their_values(self):
        commands = re.findall(r"^  (\w+)", run(RNBD, "help").stdout.split("\ncommands\n")[1].split("\n\n")[0], re.M)
        self.assertGreater(len(commands), 20)
        self.assertLessEqual(set(commands), set(self.complete("rnbd ")))
        self.assertEqual(self.complete("rnbd unm"), ["unmap"])
        self.assertEqual(self.complete("rnbd server clo"), ["close"])
        self.assertIn("--output=", self.complete("rnbd list --out"))
        self.assertEqual(self.complete("rnbd list -o js"), ["json", "jsonl"])
        self.assertEqual(self.complete("rnbd list --output=ya"), ["--output=yaml"])
        self.assertEqual(self.complete("rnbd attr "), ["list", "get", "set"])

    def test_the_scripts_are_what_their_shells_understand(self):
        for shell, check in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "--no-execute"])):
            script = run(RNBD, "completion", shell).stdout
            self.assertIn("rnbd", script)
            if shutil.which(shell):
                self.assertEqual(run(*check, "/dev/stdin", input=script).stderr, "", shell)


class InteractiveShell:
    """A shell with a terminal, whose tab key is pressed: what stands on the line then, or is listed below it."""

    COMMANDS = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
    QUIET = {"bash": 'PS1=; bind "set bell-style none" "set completion-query-items 0" "set page-completions off"',
             "zsh": "PS1= PS2=; unsetopt prompt_sp prompt_cr; bindkey -e; autoload -U compinit; compinit -D"}

    def __init__(self, test, name, environment):
        self.master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        settings[3] &= ~termios.ECHO  # the line editor echoes by itself
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        environment = os.environ | environment | {"TERM": "dumb", "PS1": "", "INPUTRC": "/dev/null", "HISTFILE": ""}
        self.process = subprocess.Popen(self.COMMANDS[name], stdin=slave, stdout=slave, stderr=slave, env=environment,
                                        start_new_session=True)
        os.close(slave)
        test.addCleanup(lambda: (self.process.kill(), self.process.wait(), os.close(self.master)))
        self._type("say() { printf '=%s=%s=%s=' 'the line' \"$*\" 'the end'; }\n")  # marks are printed, not typed
        self.run(self.QUIET[name])
        self.run(f"source <(rnbd completion {name})")

    def _type(self, keys):
        os.write(self.master, keys.encode())

    def _until(self, mark):
        text = ""
        while mark not in text:
            ready, _, _ = select.select([self.master], [], [], 60)
            if not ready:
                raise AssertionError(f"waited 60 s for {mark!r}, got {text!r}")
            text += os.read(self.master, 65536).decode(errors="replace")
        return text[:text.index(mark)]

    def run(self, command):
        self._type(f"{command}; say\n")
        self._until("=the end=")

    def tab(self, line):
        """The words on the line after the key was pressed."""
        self._type(f"{line}\t\x01say \n")  # Control-A: at its beginning
        return self._until("=the end=").rsplit("=the line=", 1)[1].split()

    def listed(self, line):
        """All that was shown after the key was pressed twice."""
        self._type(f"{line}\t\t\x01say \n")
        return self._until("=the end=").split()


class Names(Both):
    def test_bash_completes_the_names_the_daemons_know(self):
        self.map("disk0", session="a@b")
        environment = os.environ | {"RNBD_CONFIG": str(self.config), "PATH": f"{BIN}:{os.environ['PATH']}"}
        script = ('source <(rnbd completion bash); COMP_LINE=$1; COMP_POINT=${#1}; COMP_WORDS=($1 ""); COMP_CWORD=2; '
                  'compopt() { :; }; _rnbd; printf "%s\\n" "${COMPREPLY[@]}"')
        offered = run("bash", "-c", script, "bash", "rnbd disconnect ", env=environment).stdout.split()
        self.assertIn("a@b", offered)
        self.assertTrue(any(x.startswith("ip:127.0.0.1@") for x in offered), offered)
        self.assertEqual(run("bash", "-c", script, "bash", "rnbd unmap ", env=environment).stdout.split(), ["rnbd0"])

    def assert_the_tab_key_completes(self, name):
        need(name)
        self.map("disk0", session="a@b")
        path = self.cli_json("client", "list", "paths")["sessions"][0]["paths"][0]["name"]
        shell = InteractiveShell(self, name, {"RNBD_CONFIG": str(self.config), "PATH": f"{BIN}:{os.environ['PATH']}"})
        for typed, completed in (("rnbd unm", "rnbd unmap"), ("rnbd unmap ", "rnbd unmap rnbd0"), ("rnbd show a", "rnbd show a@b"),
                                 ("rnbd disconnect ip", f"rnbd disconnect {path}"), ("rnbd server close d", "rnbd server close disk0"),
                                 ("rnbd list --output=ya", "rnbd list --output=yaml"), ("rnbd list --outp", "rnbd list --output=")):
            self.assertEqual(shell.tab(typed), completed.split(), typed)
        return shell

    def test_the_tab_key_of_an_interactive_bash(self):
        shell = self.assert_the_tab_key_completes("bash")
        everything = shell.listed("rnbd ")
        for word in ("map", "unmap", "list", "doctor", "server", "path"):
            self.assertIn(word, everything)

    def test_the_tab_key_of_an_interactive_zsh(self):
        self.assert_the_tab_key_completes("zsh")

    def test_fish_completes_names_and_options(self):
        need("fish")
        self.map("disk0", session="a@b")
        environment = os.environ | {"RNBD_CONFIG": str(self.config), "PATH": f"{BIN}:{os.environ['PATH']}"}
        for line, wanted in (("rnbd unm", ["unmap"]), ("rnbd unmap ", ["rnbd0"]), ("rnbd server close d", ["disk0"]),
                             ("rnbd list --outp", ["--output"]), ("rnbd attr ", ["get", "list", "set"])):
            offered = run("fish", "--no-config", "-c", "rnbd completion fish | source; complete -C $argv[1]", line, env=environment)
            self.assertEqual([row.split("\t")[0] for row in offered.stdout.splitlines()], wanted, line)

    def test_completing_runs_nothing_that_a_name_says(self):
        self.volume("$(touch${IFS}pwned)", MIB)
        self.map("$(touch${IFS}pwned)", session="a`touch${IFS}pwned`")
        environment = os.environ | {"RNBD_CONFIG": str(self.config), "PATH": f"{BIN}:{os.environ['PATH']}"}
        script = ('source <(rnbd completion bash); COMP_LINE=$1; COMP_POINT=${#1}; read -ra COMP_WORDS <<<"$1"; '
                  'COMP_WORDS+=(""); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); compopt() { :; }; _rnbd; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        for line in ("rnbd show ", "rnbd server close ", "rnbd disconnect "):
            offered = run("bash", "-c", script, "bash", line, env=environment).stdout
            self.assertNotIn("touch", offered)
        self.assertFalse((self.dir / "pwned").exists())


class Help(unittest.TestCase):
    """Every example of the help runs, on a machine of its own with the addresses they name."""

    # A device that was closed opens again by itself, and nothing else has to be recovered.
    statuses = {"doctor": (0, 1, 7), "diff": (0, 1), "remap": (0, 4), "recover": (0, 3, 4), "server recover": (0, 3, 4)}
    # What has to be so before, beside a volume that is mapped.
    before = {
        "rnbd unmap rnbd://10.0.0.1/vol0": "rnbd unmap rnbd0 && rnbd map rnbd://10.0.0.1/vol0",
        "rnbd remap rnbd0": "rnbd server close vol0 client@server",
        "rnbd client device resize rnbd0 512 M": "truncate -s 512M /srv/rnbd/vol0",
        "rnbd reconnect client@server": "rnbd disconnect client@server",
        # Things happen until the one that listens heard one; each to another session, as the same is soon only counted.
        "rnbd events -o jsonl": "(i=0; until [ -e /run/heard ]; do i=$((i + 1)); "
                                "rnbd map sessname=s$i path=ip:10.0.0.1 device_path=vol1; rnbd unmap vol1@s$i; done; "
                                "touch /run/quiet) >/dev/null 2>&1 &",
    }
    instead = {
        "rnbd events -o jsonl": "rnbd events -o jsonl --count=1 && touch /run/heard && until [ -e /run/quiet ]; do :; done",
        "rnbd completion bash > /usr/share/bash-completion/completions/rnbd": "rnbd completion bash > /run/completion",
    }

    def run_examples(self, examples, setup):
        """Each from the same beginning, all on one machine."""
        from sandbox import machine
        afresh = ("for d in $(rnbd client list name noheaders); do rnbd unmap $d --force; done && "
                  "rnbd map sessname=client@server path=ip:10.0.0.1 path=ip:10.0.1.1 device_path=vol0")
        commands = []
        for example in examples:
            start = "rnbd unmap rnbd0" if example.startswith("rnbd map") else self.before.get(example, "true")
            commands += [afresh, start, self.instead.get(example, example)]
        files = {"/srv/rnbdtab": "vol0 rnbd://10.0.0.1/vol0\n", "/etc/rnbd/rnbdtab": "db rnbd://10.0.0.1/db\n"}
        results = machine({"setup": setup, "files": files, "commands": commands}, timeout=900)
        for number, example in enumerate(examples):
            with self.subTest(example):
                ready, (status, output) = results[3 * number:3 * number + 2], results[3 * number + 2]
                self.assertEqual([status for status, _ in ready], [0, 0], ready)
                known = next((v for k, v in self.statuses.items() if example.startswith(f"rnbd {k}")), (0,))
                self.assertIn(status, known, output)

    def test_examples(self):
        need("unshare", "ip")
        sys.path.insert(0, str(ROOT / "tests/man"))
        text = run(RNBD, "help", "all").stdout
        blocks = re.findall(r"^examples?\n((?:  rnbd .*\n)+)", text, re.M)
        examples = [line.strip() for block in blocks for line in block.splitlines()]
        self.assertGreater(len(examples), 40)
        of_server = [x for x in examples if re.search(r"rnbd (server|close|dump|tree|remap|top)", x)]
        of_client = [x for x in examples if x not in of_server]
        client = "rnbd-client --frontend=nbd &"
        self.run_examples(of_server, ["rnbd-server /srv/rnbd &", client])
        # The server is another machine's.
        self.run_examples(of_client, ["rnbd-server /srv/rnbd --socket=/run/other.sock &", client])
