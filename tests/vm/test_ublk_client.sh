#!/bin/bash
# In the guest: rnbd-client with its volumes as ublk devices, as people use it.
# lab: --timeout 200
set -euo pipefail
bin=${RNBD_BIN:?directory of our programs}
trap 'echo "test_ublk_client: line $LINENO failed" >&2; cat /tmp/*.log >&2' ERR
cd /tmp
mkdir -p /run/rnbd /tmp/volumes
truncate -s 64M /tmp/volumes/vol0 /tmp/volumes/vol1

"$bin/rnbd-server" /tmp/volumes >/tmp/server.log 2>&1 &
server=$!
"$bin/rnbd-client" >/tmp/client.log 2>&1 &
client=$!
rnbd() { "$bin/rnbd" "$@"; }
until rnbd ping >/dev/null 2>&1 && rnbd server ping >/dev/null 2>&1; do sleep 0.1; done
map="sessname=blya path=ip:127.0.0.1 device_path"

echo "auto is ublk"
rnbd map $map=vol0
rnbd show rnbd0 | grep -q '^frontend: *ublk'
[ "$(readlink -f /dev/rnbd0)" = /dev/ublkb0 ]
[ "$(readlink -f /dev/rnbd/blya/vol0)" = /dev/ublkb0 ]
rnbd list | grep -q '/dev/rnbd0'

echo "a file system on it; busy is refused, with its user named"
mkfs.ext4 -q /dev/rnbd0
mount /dev/rnbd0 /mnt
dd if=/dev/urandom of=/mnt/file bs=1M count=8 status=none conv=fsync
sum=$(sha256sum </mnt/file)
if rnbd unmap rnbd0 2>/tmp/busy.txt; then exit 1; fi
grep -q 'mounted on /mnt' /tmp/busy.txt
umount /mnt
rnbd unmap /dev/rnbd0
[ ! -e /dev/rnbd0 ] && [ ! -e /dev/rnbd ] && [ ! -e /dev/ublkb0 ]
rnbd map $map=vol0
fsck.ext4 -fn /dev/rnbd0 >/dev/null 2>&1
mount -o ro /dev/rnbd0 /mnt
[ "$(sha256sum </mnt/file)" = "$sum" ]
umount /mnt

echo "each mapping its own way"
modprobe -a loop fuse
rnbd map --frontend=loop $map=vol1
rnbd show rnbd1 | grep -q '^frontend: *loop'
[[ "$(readlink -f /dev/rnbd1)" == /dev/loop* ]]
cmp -n 4096 /dev/rnbd1 /dev/zero
rnbd unmap rnbd1
rnbd map --frontend=nbd $map=vol1
rnbd show rnbd1 | grep -q '^frontend: *nbd'
[ ! -e /dev/rnbd1 ]
rnbd unmap rnbd1
if rnbd map --frontend=floppy $map=vol1 2>/dev/null; then exit 1; fi

echo "the server hangs, and force takes the device away all the same"
kill -STOP $server
dd if=/dev/zero of=/dev/rnbd0 bs=4096 count=1 oflag=direct status=none 2>/tmp/dd.txt &
writer=$!
until grep -q ' [1-9]' <(cat /sys/block/ublkb0/inflight); do sleep 0.1; done
rnbd unmap --force rnbd0
if wait $writer; then exit 1; fi
[ ! -e /dev/rnbd0 ]
kill -CONT $server

echo "the daemon ends, and nothing is left"
rnbd map $map=vol1
kill -TERM $client
wait $client
[ ! -e /dev/rnbd0 ] && [ ! -e /dev/ublkb0 ]
kill -TERM $server
wait $server
echo "test_ublk_client: all passed"
