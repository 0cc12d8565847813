"""Every example of the manual pages, run as written, does what the page shows and says."""
import os
import re
import shutil
import unittest
from concurrent.futures import ThreadPoolExecutor

from pages import all_pages
from sandbox import machine

AT_A_TIME = 4  # examples: they wait more than they work
SETUP = {
    "server": ["rnbd-server --socket=/run/storage1/server.sock /srv/rnbd &"],
    "here": ["rnbd-server /srv/rnbd &"],
    "client": ["rnbd-client --frontend=nbd &"],
    "client=fuse": ["rnbd-client --frontend=fuse &"],
    "client=loop": ["rnbd-client --frontend=loop &"],
    "mapped": ["rnbd map sessname=web1@storage1 path=ip:10.0.0.1 path=ip:10.0.1.1 device_path=vol0 >/dev/null"],
}


def commands_of(lines):
    """[(command, expected output lines)] of a display."""
    found = []
    continued = False
    for line in lines:
        if continued:
            found[-1][0] += "\n" + line
        elif line[:2] in ("# ", "$ "):
            found.append([line[2:], []])
        elif found:
            found[-1][1].append(line)
        else:
            raise AssertionError(f"'{line}' stands before the first command")
        continued = line.endswith("\\") or ("<<" in found[-1][0] and line.strip() != "EOF")
    return found


def agrees(expected, output):
    """Whether the output is what the page shows; '...' is anything, also several lines; blanks count as one."""
    def tidy(lines):
        return "\n".join(" ".join(line.split()) for line in lines).strip()
    pattern = re.escape(tidy(expected)).replace(re.escape("..."), "(?s:.*)").replace(r"\ ", " ")
    return re.fullmatch(pattern, tidy(output.splitlines())) is not None


class Examples(unittest.TestCase):
    not_run = []
    ran = 0

    def setUp(self):
        if not shutil.which("unshare"):
            self.skipTest("unshare is not installed")

    def needs(self, words):
        if "client=loop" in words and not (os.geteuid() == 0 and os.path.exists("/dev/loop-control")):
            return "needs root and loop devices"
        if ("client=fuse" in words or "client=loop" in words) and not os.path.exists("/dev/fuse"):
            return "needs /dev/fuse"
        return None

    def begin(self, display, files):
        """Runs a display on a machine of its own, meanwhile: a call that judges it."""
        words = display.about.split()
        where = f"{display.page}:{display.line}"
        setup = []
        for word in words:
            if not word.startswith("status=") and word != "files":
                self.assertIn(word, SETUP, f"{where}: what is '{word}'?")
                setup += SETUP[word]
        if reason := self.needs(words):
            Examples.not_run.append((display.page, display.line, reason))
            return lambda: None
        steps = commands_of(display.lines)
        ran = self.pool.submit(machine, {"setup": setup, "files": files if "files" in words else {},
                                         "commands": [c for c, _ in steps] + display.checks})
        wanted = next((int(w[7:]) for w in words if w.startswith("status=")), 0)
        return lambda: self.judge(display, steps, wanted, ran.result())

    def judge(self, display, steps, wanted, results):
        where = f"{display.page}:{display.line}"
        commands = [c for c, _ in steps] + display.checks
        told = "\n".join(f"$ {c}\n{o[-2000:]}[{s}]" for (c, (s, o)) in zip(commands, results))
        for number, (command, expected) in enumerate(steps):
            status, output = results[number]
            last = number == len(steps) - 1
            if expected and re.match(r"(bash|rnbd[a-z-]*): ", expected[0]) and not (last and wanted):
                self.assertNotEqual(status, 0, f"{where}: '{command}' should fail\n{told}")
            else:
                self.assertEqual(status, wanted if last else 0, f"{where}: status of '{command}'\n{told}")
            if expected:
                self.assertTrue(agrees(expected, output), f"{where}: '{command}' should print\n"
                                + "\n".join(expected) + f"\nbut:\n{told}")
        for check, (status, output) in zip(display.checks, results[len(steps):]):
            self.assertEqual(status, 0, f"{where}: check '{check}'\n{told}")
        Examples.ran += 1

    def run_page(self, page):
        files = {d.about: "\n".join(d.lines) + "\n" for d in page.displays if d.kind == "file"}
        with ThreadPoolExecutor(max_workers=AT_A_TIME) as self.pool:
            begun = []
            for display in page.displays:
                where = f"{display.page}:{display.line}"
                with self.subTest(where):
                    self.assertNotEqual(display.kind, "", f"{where}: no comment says what this display is")
                    if display.kind == "not run":
                        self.assertNotEqual(display.about, "", f"{where}: not run, but why?")
                        Examples.not_run.append((display.page, display.line, display.about))
                    elif display.kind == "run":
                        begun.append((where, self.begin(display, files)))
            for where, judge in begun:
                with self.subTest(where):
                    judge()


def add_tests():
    for page in all_pages():
        name = "test_" + re.sub(r"\W", "_", page.name)
        setattr(Examples, name, lambda self, page=page: self.run_page(page))


add_tests()

if __name__ == "__main__":
    unittest.main()
