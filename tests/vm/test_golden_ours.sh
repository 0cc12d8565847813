#!/usr/bin/env bash
# What our client and our server put on the wire is what the kernel's do, field by field (U02 of docs/interop.md);
# compare.py lists where they differ on purpose.
# lab: --cpus 1
. "$LAB_LIB"

here=${LAB_LIB%/*}
dialogue() { # CLIENT SERVER OURS
  step "$1 client, $2 server"
  "$here/guest/dialogue.sh" "$1" "$2" 0 always_invalidate=N
  "$here/trace.py" "$LAB_SHARE/dialogue.pcap" >/tmp/trace
  "$here/compare.py" "$3" "$here/../golden/kernel-fixed-keys.txt" /tmp/trace || fail "our $3 differs from the kernel's"
}
dialogue kernel ours server
dialogue ours kernel client
