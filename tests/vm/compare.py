#!/usr/bin/env python3
"""Compares what one of ours said in a capture with what the kernel says in a golden trace, field by field.

  tests/vm/compare.py client|server GOLDEN TRACE

Fails and shows the lines that differ in anything but what stands in DIFFERENCES."""
import difflib
import re
import sys

CHUNK_BITS = 19  # of the offset in an immediate, at the queue depth of 512 that both sides have here
IO, OPEN_RESPONSE, OPEN_RESPONSE_BYTES = "04", "03", 56

# Where ours differs on purpose: who, what in the kernel's line, what instead, why.
DIFFERENCES = (
    ("both", r"rnr_retry=7", "rnr_retry=6", "7 means for ever; a peer that posts no receives is given up after a second"),
    ("client", r"( 03 00 (?:20 00|24 00|08 01)) 01 00 01 00 ", r"\1 00 00 01 00 ", "our memory keeps its keys: nothing to invalidate"),
    ("client", r" 04 40( 00){6} (03|02) 00 20 00", r" 00 00 00 00 00 00 00 00 \2 00 20 00", "no priority comes through ublk"),
    ("client", r" (01|03|05) 01 00 00 (.. .. .. ..( 00){8} 02 00 20 00)", r" \1 00 00 00 \2", "ublk does not tell which writes are synchronous"),
    ("client", r" 05 00 00 00 (.. .. .. ..( 00){8} 02 00 20 00)", r" 05 08 00 00 \1", "ublk asks to write zeroes without giving up the blocks"),
)


def expand(line):
    """The line with every run of bytes written out."""
    head, _, tokens = line.partition(" :")
    return head + " :" + re.sub(r" ([0-9a-f]{2})\*(\d+)", lambda run: f" {run[1]}" * int(run[2]), tokens)


def without_choices(line):
    """Without what either side is free to choose: the chunk, the limits of its device."""
    line = re.sub(r"imm=0x([012])([0-9a-f]{7})", lambda imm: f"imm={imm[1]}+{int(imm[2], 16) & (1 << CHUNK_BITS) - 1:05x}"
                  if line.startswith("client") else f"imm={imm[1]}+{int(imm[2], 16) >> CHUNK_BITS:03x}", line)
    line = re.sub(r"at=\d+\+", "at=", line)
    head, _, data = line.partition(" :")
    tokens = data.split()
    if line.startswith("server") and len(tokens) == OPEN_RESPONSE_BYTES and tokens[0] == OPEN_RESPONSE:
        for start, length, name in ((4, 4, "device"), (16, 16, "limit"), (45, 1, "cache")):
            tokens[start:start + length] = [name] * length
    return " ".join([head, ":", *tokens])


def lines_of(path, sender):
    with open(path, encoding="ascii") as trace:
        text = trace.read().split("# heartbeats")[0]
    return [without_choices(expand(line)) for line in text.splitlines() if line.startswith(sender)]


def with_our_differences(line, sender):
    for who, pattern, instead, _ in DIFFERENCES:
        if who in ("both", sender):
            line = re.sub(pattern, instead, line)
    return line


def shorten(line):
    return re.sub(r"( [0-9a-f]{2})\1{7,}", lambda run: f"{run[1]}*{len(run[0]) // 3}", line)


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in ("client", "server"):
        sys.exit(__doc__)
    sender = sys.argv[1]
    golden = [with_our_differences(line, sender) for line in lines_of(sys.argv[2], sender)]
    ours = [line for line in lines_of(sys.argv[3], sender) if not line.endswith(" write :")]  # an empty one closes a queue
    differing = [shorten(line) for line in difflib.unified_diff(golden, ours, "the kernel", "ours", n=0, lineterm="")]
    if differing:
        sys.exit("\n".join(differing))
    print(f"{len(ours)} messages of our {sender} are the kernel's")


if __name__ == "__main__":
    main()
