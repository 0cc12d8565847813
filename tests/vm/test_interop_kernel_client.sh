#!/usr/bin/env bash
# The kernel's RNBD client against our server over RDMA. Cases are named as in docs/interop.md.
# lab: --timeout 600
. "$LAB_LIB"

rdma_wire
before=$(rdma_counts)
mkdir -p /tmp/volumes
truncate -s 64M /tmp/volumes/disk
truncate -s 16M /tmp/volumes/other
kernel_client_start

serve() { # [KEY=VALUE...]: our server with these settings
  printf '%s\n' '[server]' "${@/=/ = }" >/tmp/rnbd.toml
  server_start --config /tmp/rnbd.toml --listen ip:10.0.0.2 --listen ip:fd00::2 /tmp/volumes
}
map() { kernel_map c1 "$1" ip:10.0.0.1@ip:10.0.0.2 "${@:2}"; }
session_gone() { [ ! -e /sys/class/rtrs-client/c1 ]; }

round() { # NAME KEY=VALUE...
  step "$1"
  serve "${@:2}"
  local device
  device=$(map disk)
  expect_equal size "$(blockdev --getsize64 "$device")" $((64 << 20))
  fio_verify "$device" --size=4m
  kernel_unmap "$device"
  daemon_stop "$server"
}

round "S01 map-basic, S08/S09 answers, S11 fio verify"
round "S04 qd-range: 2" sess_queue_depth=2
round "S04 qd-range: 300" sess_queue_depth=300
round "S07 chunk-sizes: 8 KiB" max_chunk_size=8192 sess_queue_depth=32
round "S07 chunk-sizes: 1 MiB" max_chunk_size=1048576 sess_queue_depth=16
round "S10 new-rkey" 'memory_windows="test"'

step "S02 map-ro, S03 map-errors, S20 partition-scan, S21 two-devices"
serve
expect_error "No such file" map none
expect_error "Block device required" map .
device=$(map disk access_mode=ro)
expect_error "not permitted" dd if=/dev/zero of="$device" bs=4k count=1 oflag=direct
kernel_unmap "$device"
python3 -c '
import struct
with open("/tmp/volumes/disk", "r+b") as disk:  # a partition of 2 MiB from 1 MiB on
    disk.seek(446)
    disk.write(struct.pack("<8B2I", 0, 0, 0, 0, 0x83, 0, 0, 0, 2048, 4096))
    disk.seek(510)
    disk.write(b"\x55\xaa")'
device=$(map disk)
[ -b "${device}p1" ] || fail "S20: no partition found"
other=$(map other)
fio_verify "$device" --size=2m --offset=8m &
first=$!
fio_verify "$other" --size=2m
wait $first || fail "S21: the first of two devices"

step "S12 fsync, S15 discard, S16 write-zeroes"
dd if=/dev/urandom of="$device" bs=1M seek=4 count=2 oflag=direct conv=fsync status=none
blkdiscard -f -z -o 4M -l 2M "$device"
cmp -n $((2 << 20)) /dev/zero <(dd if=/tmp/volumes/disk bs=1M skip=4 count=2 status=none) || fail "S16: not zeroes"
kernel_unmap "$other"

step "mkfs, mount, fsck"
mkfs.ext4 -q -F "$device"
mount "$device" /mnt
cp -r /etc/apt /mnt
sync
umount /mnt
fsck.ext4 -fn "$device" >/tmp/fsck.out 2>&1 || { cat /tmp/fsck.out; fail fsck; }

step "S26 reconnect, S28 server-kill-9: the device goes on with a new server process"
dd if=/dev/urandom of=/tmp/data bs=64k count=16 status=none
dd if=/tmp/data of="$device" bs=64k oflag=direct status=none
kill -KILL "$server"
wait "$server" || true
serve
wait_until 90 is "$(ls -d /sys/class/rtrs-client/c1/paths/*/state | head -1)" connected
cmp -n $((1 << 20)) /tmp/data <(dd if="$device" bs=64k count=16 iflag=direct status=none) || fail "S26: other data"
kernel_unmap "$device"

step "100 map/unmap cycles"
for i in $(seq 100); do
  device=$(map other) || fail "map $i"
  kernel_unmap "$device"
done

step "IPv6"
device=$(kernel_map c6 disk ip:fd00::1@ip:fd00::2)
dd if="$device" of=/dev/null bs=64k count=4 iflag=direct status=none
kernel_unmap "$device"

step "S37 rmmod-client: everything is freed"
kernel_client_stop
daemon_stop "$server"
expect_no_rdma_leak "$before"
