#!/usr/bin/env bash
# The traces in tests/golden are what the kernel's client and server really say: the unit tests compare ours with them.
# lab: --cpus 1
. "$LAB_LIB"

golden=$(dirname "$LAB_LIB")/../golden
messages() { sed -e '/^# heartbeats/,$d' -e '/^# The kernel/,/^# queue depth/d' "$1"; }
for kind in renewed:Y fixed:N; do
  step "always_invalidate=${kind#*:}"
  "${LAB_LIB%/*}/guest/dialogue.sh" kernel kernel 0 "always_invalidate=${kind#*:}"
  "${LAB_LIB%/*}/trace.py" "$LAB_SHARE/dialogue.pcap" >/tmp/trace
  diff -u <(messages "$golden/kernel-${kind%:*}-keys.txt") <(messages /tmp/trace) ||
    fail "the kernel says something else than tests/golden/kernel-${kind%:*}-keys.txt"
done
