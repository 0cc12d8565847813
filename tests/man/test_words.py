"""The pages and the programs know the same words: nothing is missing in a page, and nothing there is unknown to them."""
import json
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from pages import ROOT, page
from sandbox import BIN, machine

RNBD, SERVER, CLIENT = (f"{BIN}/{name}" for name in ("rnbd", "rnbd-server", "rnbd-client"))


def told(*argv, **keywords):
    """What a program says, wherever it says it."""
    result = subprocess.run(argv, capture_output=True, text=True, timeout=60, **keywords)
    return result.stdout + result.stderr


def flags_of_page(name, section="OPTIONS", macro="Fl"):
    """{'-o', '--output', …} of the items of a list of options."""
    found = set()
    for item in page(name).items_of(section, macro=macro):
        found |= {"-" + flag for flag in re.findall(r"(?:^|Fl )(-?[A-Za-z][a-z-]*)", item.text)}
    return found


def flags_in(text):
    """Those at the beginning of the lines of a help text."""
    found = set()
    for line in text.splitlines():
        if m := re.match(r"\s+((?:--?[A-Za-z][a-z-]*(?:[= ]\S+)?,\s*)*--?[A-Za-z][a-z-]*)", line):
            found |= set(re.findall(r"(?<![\w-])--?[A-Za-z][a-z-]*", m.group(1)))
    return found


class Words(unittest.TestCase):
    def same(self, inside, known):
        """Two dicts; what differs is said alone."""
        self.assertEqual(sorted(inside.items() - known.items()), sorted(known.items() - inside.items()), "page, programs")


class Options(Words):
    def test_of_rnbd(self):
        options = told(RNBD, "help").split("\noptions\n")[1]
        self.assertEqual(flags_of_page("rnbd.8"), flags_in(options))

    def test_of_the_daemons(self):
        for program, name in ((SERVER, "rnbd-server.8"), (CLIENT, "rnbd-client.8")):
            self.assertEqual(flags_of_page(name), flags_in(told(program, "--help")), name)


class Configuration(Words):
    def keys_of_page(self):
        found = {}
        for item in page("rnbd.toml.5").items_of("KEYS", macro="Va"):
            name, _, default = item.text.partition(" No = Li ")
            sections = ("server", "client") if item.subsection == "server and client" else (item.subsection,)
            for section in sections:
                found[(section, name)] = default
        return found

    def keys_of_programs(self):
        found = {}
        with tempfile.TemporaryDirectory() as empty:
            nothing = Path(empty) / "rnbd.toml"
            nothing.touch()
            for program in (SERVER, CLIENT):
                section = ""
                for line in told(program, "--print-config", "--config", str(nothing)).splitlines():
                    if m := re.match(r"#?\[+(\w+)\]+", line):
                        section = m.group(1)
                    elif m := re.match(r"#?(\w+) = (.*)", line):
                        found[(section, m.group(1))] = m.group(2)
        for name in ("name", "file"):  # of [[export]]: shown by an example
            found[("export", name)] = ""
        return found

    def test_keys_and_their_defaults(self):
        self.same(self.keys_of_page(), self.keys_of_programs())


    def test_every_choice_of_a_key_is_described(self):
        printed = told(SERVER, "--print-config", "--config", "/dev/null") + told(CLIENT, "--print-config", "--config", "/dev/null")
        choices = {}
        for comment, key in re.findall(r"^#.*\(([^()]*)\)\n#?(\w+) = ", printed, re.M):
            if ", " in comment:
                choices[key] = set(comment.split(", "))
        self.assertIn("on_stop", choices)
        for item in page("rnbd.toml.5").items_of("KEYS", macro="Va"):
            key = item.text.split()[0]
            if key in choices:
                described = set(re.findall(r"^\.Li ([a-z-]+)", item.body, re.M))
                self.assertEqual(described & choices[key], choices[key], key)

    def test_keys_that_change_at_once(self):
        known = set()
        for name in ("server/server_daemon.cc", "client/client_daemon.cc"):
            live = re.search(r"kLive\{(.*?)\};", (ROOT / "src/daemon" / name).read_text(), re.S).group(1)
            known |= set(re.findall(r'"(\w+)"', live))
        inside = {key for item in page("rnbd.toml.5").items_of("RELOADING", macro="Va") for key in item.text.split(" , ")}
        self.assertEqual(inside, known)


class Commands(unittest.TestCase):
    def test_commands_and_their_other_names(self):
        overview = told(RNBD, "help").split("\ncommands\n")[1].split("\n\n")[0]
        known = set(re.findall(r"^  (\w+)", overview, re.M))
        for name in list(known):
            if m := re.search(r"^also: (.*)", told(RNBD, "help", name), re.M):
                known |= set(m.group(1).split())
        section = re.search(r"^\.Sh COMMANDS\n(.*?)^\.Sh ", page("rnbd.8").source, re.M | re.S).group(1)
        inside = set(re.findall(r"\bIc (\w+)", section))
        self.assertEqual(inside, known)

    def test_exit_statuses(self):
        known = set(re.findall(r"^(\d+)  ", told(RNBD, "help", "exit-codes"), re.M))
        self.assertEqual({i.text for i in page("rnbd.8").items_of("EXIT STATUS")}, known)

    def test_events(self):
        """Those the programs' sources name."""
        told_of = re.compile(r'(?:\.name = |\btell\(|\? |: )"([a-z]+(?:_[a-z]+)+)"')
        known = set()
        for file in (ROOT / "src").rglob("*.cc"):
            text = file.read_text()
            if "test" not in str(file.relative_to(ROOT)) and re.search(r"log_event|tell\(|\.name = \"events_", text):
                known |= set(told_of.findall(text))
        self.assertEqual({i.text for i in page("rnbd.8").items_of("EVENTS", macro="Cm")}, known)

    def test_trace_points(self):
        defined = re.compile(r"^RNBD_PROBE_DEFINE\((\w+), (\w+)\)", re.M)
        known = {":".join(names) for file in (ROOT / "src").rglob("*.cc") if "test" not in str(file.relative_to(ROOT))
                 for names in defined.findall(file.read_text())}
        inside = {i.text for name in ("rnbd-server.8", "rnbd-client.8") for i in page(name).items_of("TRACING", macro="Cm")}
        self.assertEqual(inside, known)

    def test_fields(self):
        known = set()
        for line in told(RNBD, "help", "fields").splitlines():
            if m := re.match(r"  [* ] (?=.{20})(\w+)(?: (\w+))? +\S", line):
                known |= {m.group(1), *([m.group(2)] if m.group(2) else [])}
        inside = set()
        for item in page("rnbd.8").items_of("COLUMNS", macro="Cm"):
            inside |= set(item.text.removesuffix(" Pq shown").replace(",", " ").split())
        self.assertEqual(inside, known)

    def test_variables_of_the_environment(self):
        sources = "".join(p.read_text() for p in (ROOT / "src").rglob("*.cc")
                          if "test" not in str(p.relative_to(ROOT)) and "sim" not in p.parts)
        known = set(re.findall(r'(?:environment|getenv)\("((?:RNBD_|NO_COLOR|XDG_)\w*)"\)', sources))
        inside = set()
        for name in ("rnbd.8", "rnbd-server.8", "rnbd-client.8", "rnbd.toml.5", "rnbdtab.5"):
            inside |= {i.text for i in page(name).items_of("ENVIRONMENT", macro="Ev")}
        self.assertEqual({v for v in inside if v.startswith(("RNBD_", "NO_COLOR", "XDG_"))}, known)


class Statuses(unittest.TestCase):
    CASES = {
        "rnbd-server": {0: "kill $(pidof rnbd-server); wait %1", 1: "rnbd-server --socket=/run/x.sock /srv/rnbd",
                        2: "rnbd-server --nonsense", 4: "rnbd-server --port=99 /srv/rnbd",
                        5: "setpriv --reuid=65534 --clear-groups rnbd-server --listen=tcp:127.0.0.1 --port=80 /srv/rnbd",
                        9: "rnbd-server --config=/nonsense /srv/rnbd"},
        "rnbd-client": {0: "kill $(pidof rnbd-client); wait %2", 1: "rnbd-client --socket=/proc/x/y",
                        2: "rnbd-client --nonsense", 4: "rnbd-client",
                        9: "rnbd-client --config=/nonsense"},
    }

    def test_of_the_daemons(self):
        for program, cases in self.CASES.items():
            self.assertEqual({i.text for i in page(f"{program}.8").items_of("EXIT STATUS")}, {str(s) for s in cases}, program)
            if os.geteuid() != 0:
                continue  # nobody else can do without rights
            cases = dict(sorted(cases.items(), reverse=True))  # 0 ends the daemon
            # Whatever starts all the same ends by itself.
            ended = machine({"setup": ["rnbd-server /srv/rnbd &", "rnbd-client --frontend=nbd &"], "files": {},
                             "commands": [c if status == 0 else f"timeout 20 {c}" for status, c in cases.items()]})
            for (status, command), (seen, output) in zip(cases.items(), ended):
                self.assertEqual(seen, status, f"{command}: {output}")


class Uris(unittest.TestCase):
    def test_keys(self):
        hint = told(RNBD, "map", "rnbd://10.0.0.1/v?qqqqqqqq=1")
        known = set(re.search(r"one of: (.*?)\)?$", hint.strip()).group(1).split(", "))
        self.assertEqual({i.text for i in page("rnbd-uri.7").items_of("KEYS", macro="Cm")}, known)

    def test_schemes(self):
        hint = told(RNBD, "map", "qqqqqqqqqqqqqq://10.0.0.1/v")
        known = set(re.search(r"one of: (.*?)\)?$", hint.strip()).group(1).split(", "))
        self.assertEqual({i.text for i in page("rnbd-uri.7").items_of("DESCRIPTION", macro="Cm")}, known)

    def test_options_of_rnbdtab(self):
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "rnbdtab"

            def hint(line):
                table.write_text(line + "\n")
                return re.search(r"one of: (.*?)\)?$", told(RNBD, "diff", str(table)).strip()).group(1).split(", ")
            options = set(hint("name rnbd://10.0.0.1/v qqqqqqqqqqqqqqqq"))
        self.assertEqual({i.text.split()[0] for i in page("rnbdtab.5").items_of("OPTIONS", macro="Cm")}, options)


class Attributes(Words):
    def of_page(self):
        found = {}
        for item in page("rnbd-sysfs.7").items:
            if item.macro != "Pa" or not (m := re.match(r"(.*) Pq (0\d\d\d|link)$", item.text)):
                continue
            for name in m.group(1).split(" , "):
                found[f"{item.subsection}/{name}"] = m.group(2)
        return found

    def of_daemons(self):
        listed = machine({
            "setup": ["rnbd-server /srv/rnbd &", "rnbd-client --frontend=nbd &",
                      "rnbd map sessname=blya path=ip:10.0.0.1 path=ip:10.0.1.1 device_path=vol0"],
            "files": {}, "commands": ["rnbd -o json attr list", "rnbd -o json server attr list"]})
        found = {}
        for status, text in listed:
            self.assertEqual(status, 0, text)
            for node in json.loads(text)["nodes"]:
                path = re.sub(r"ip:[^/]*@ip:[^/]*", "PATH", node["path"])
                path = re.sub(r"\bvol0@blya\b", "VOLUME@SESSION", path)
                path = re.sub(r"/blya\b", "/SESSION", re.sub(r"/rnbd0\b", "/DEVICE", path))
                path = path.replace("ctl/devices/vol0", "ctl/devices/DEVICE")
                if node["kind"] == "attribute":
                    found[path] = f"{node['mode']:04o}"
                elif node["kind"] == "link" and (path.endswith("/block_dev") or "/ctl/devices/" in path):
                    found[path] = "link"
        return found

    def test_every_attribute_with_its_mode(self):
        self.same(self.of_page(), self.of_daemons())


if __name__ == "__main__":
    unittest.main()
