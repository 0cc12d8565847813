"""What in a guest's kernel log fails a run."""
import re

COMPLAINT = re.compile(
    r"WARNING:|\bBUG:|Oops:|(?i:kernel panic|general protection fault|unable to handle|invalid opcode|double fault|"
    r"blocked for more than|KASAN|UBSAN|KFENCE|kmemleak|refcount_t|list_(add|del) corruption|use-after-free|double[- ]free|"
    r"recursive locking|circular locking|inconsistent lock state|suspicious RCU|held lock freed|bad unlock balance|"
    r"sleeping function called|scheduling while atomic|Bad page|Bad rss-counter|page allocation failure|Out of memory|"
    r"restrack:|still in use|Objects remaining|not freed|waiting for .* to become free|kernel BUG|soft lockup|hard LOCKUP)")

# Lines that look like a complaint and are none, each with the reason.
HARMLESS = (
    # Spectre notes of the emulated processor: mitigations are off on purpose, emulation has nothing to leak.
    r"Spectre|MDS CPU bug|Vulnerable:",
    # printed by tests that mean it: a script writes "lab: expected ..." to /dev/kmsg
    r"lab: expected",
)
HARMLESS_LINE = re.compile("|".join(HARMLESS))
CONTEXT_LINES = 25


def complaints(text):
    """The complaints of the kernel, each with the lines that followed it."""
    lines = text.splitlines()
    found = []
    skip_until = -1
    for number, line in enumerate(lines):
        if number < skip_until or not COMPLAINT.search(line) or HARMLESS_LINE.search(line):
            continue
        skip_until = number + CONTEXT_LINES
        found += lines[number:skip_until] + ["..."]
    return found


def tail(text, lines):
    return "\n".join(text.splitlines()[-lines:])
