"""The manual pages as these tests read them: words of lists, displays, references."""
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MAN = ROOT / "man"
ESCAPES = {r"\e": "\\", r"\-": "-", r"\&": "", r"\(aq": "'", r"\(dq": '"', r"\(ti": "~", r"\(ha": "^"}


def plain(text):
    """Text without the escapes of roff."""
    for escape, meaning in ESCAPES.items():
        text = text.replace(escape, meaning)
    return text


@dataclass
class Display:
    page: str
    line: int
    kind: str  # run, file, not run, text; empty: the comment is missing
    about: str
    lines: list = field(default_factory=list)
    checks: list = field(default_factory=list)


@dataclass
class Item:
    section: str
    subsection: str
    macro: str  # Fl, Cm, Ic, Ev, Pa, Va, or empty
    text: str
    body: str = ""  # the source below it


class Page:
    def __init__(self, path):
        self.path = path
        self.name = path.name
        self.source = path.read_text()
        self.displays, self.items, self.references = [], [], set()
        self._read()

    def _read(self):
        section = subsection = ""
        comment = ("", "")
        display = None
        for number, line in enumerate(self.source.splitlines(), 1):
            if display is not None and line != ".Ed":
                display.lines.append(plain(line))
                continue
            if line == ".Ed":
                self.displays.append(display)
                display = None
            elif m := re.match(r'\.\\" (run|file|not run|text)\b:? ?(.*)', line):
                comment = (m.group(1), m.group(2))
                continue
            elif m := re.match(r'\.\\" check: (.*)', line):
                self.displays[-1].checks.append(m.group(1))
            elif line.startswith(".Bd -literal") or line.startswith(".Bd -unfilled"):
                display = Display(self.name, number, *comment)
            elif m := re.match(r"\.Sh (.*)", line):
                section, subsection = plain(m.group(1)).strip('"'), ""
            elif m := re.match(r"\.Ss (.*)", line):
                subsection = plain(m.group(1)).strip('"')
            elif m := re.match(r"\.It(?: (Fl|Cm|Ic|Ev|Pa|Va))?(?: (.*))?$", line):
                self.items.append(Item(section, subsection, m.group(1) or "", plain(m.group(2) or "")))
            elif m := re.match(r"\.Xr (\S+) (\d)", line):
                self.references.add((m.group(1), m.group(2)))
            if self.items and not re.match(r"\.(It|El|Sh|Ss)\b", line):
                self.items[-1].body += line + "\n"
            if not line.startswith(".Pp"):
                comment = ("", "")

    def items_of(self, section, subsection=None, macro=None):
        return [i for i in self.items if i.section == section and (subsection is None or i.subsection == subsection)
                and (macro is None or i.macro == macro)]


def all_pages():
    return [Page(path) for path in sorted(MAN.glob("*.[1-9]"))]


def page(name):
    return Page(MAN / name)
