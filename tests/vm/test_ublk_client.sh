#!/bin/bash
# In the guest: rnbd-client with its volumes as ublk devices, as people use it.
# lab: --timeout 200
. "$LAB_LIB"
mkdir /tmp/volumes
truncate -s 64M /tmp/volumes/vol0 /tmp/volumes/vol1
server_start /tmp/volumes
client_start
map="sessname=blya path=ip:127.0.0.1 device_path"

step "auto is ublk"
rnbd map $map=vol0
rnbd show rnbd0 | grep -q '^frontend: *ublk'
[ "$(readlink -f /dev/rnbd0)" = /dev/ublkb0 ]
[ "$(readlink -f /dev/rnbd/blya/vol0)" = /dev/ublkb0 ]
rnbd list | grep -q '/dev/rnbd0'

step "a file system on it; busy is refused, with its user named"
mkfs.ext4 -q /dev/rnbd0
mount /dev/rnbd0 /mnt
dd if=/dev/urandom of=/mnt/file bs=1M count=8 status=none conv=fsync
sum=$(sha256sum </mnt/file)
expect_error "mounted on /mnt" rnbd unmap rnbd0
umount /mnt
rnbd unmap /dev/rnbd0
[ ! -e /dev/rnbd0 ] && [ ! -e /dev/rnbd ] && [ ! -e /dev/ublkb0 ]
rnbd map $map=vol0
fsck.ext4 -fn /dev/rnbd0 >/dev/null 2>&1
mount -o ro /dev/rnbd0 /mnt
[ "$(sha256sum </mnt/file)" = "$sum" ]
umount /mnt

step "each mapping its own way"
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
expect_error "unknown frontend" rnbd map --frontend=floppy $map=vol1

step "the server hangs, and force takes the device away all the same"
kill -STOP "$server"
dd if=/dev/zero of=/dev/rnbd0 bs=4096 count=1 oflag=direct status=none 2>/tmp/dd.txt &
writer=$!
under_way() { [ "$(awk '{print $1 + $2}' /sys/block/ublkb0/inflight)" -gt 0 ]; }
wait_until 20 under_way
rnbd unmap --force rnbd0
not wait $writer || fail "the writer was told that it succeeded"
[ ! -e /dev/rnbd0 ]
kill -CONT "$server"

step "the daemon ends, and nothing is left"
rnbd map $map=vol1
daemon_stop "$client"
[ ! -e /dev/rnbd0 ] && [ ! -e /dev/ublkb0 ]
daemon_stop "$server"
echo "test_ublk_client: all passed"
