#!/usr/bin/env bash
# One dialogue of the kernel's RNBD client and server over RDMA, captured into $LAB_SHARE/dialogue.pcap:
# guest/dialogue.sh SECONDS [PARAMETER=VALUE...]; SECONDS of silence for heartbeats, the rest for rtrs-server.
. "$LAB_LIB"

# block DEVICE discard|zero|flush [OFFSET LENGTH]: the bare operation, where tools would first read what is there.
block() {
  python3 -c '
import fcntl, os, struct, sys
device = os.open(sys.argv[1], os.O_RDWR)
BLKDISCARD, BLKZEROOUT = 0x1277, 0x127f
if sys.argv[2] == "flush":
    os.fsync(device)
else:
    fcntl.ioctl(device, BLKDISCARD if sys.argv[2] == "discard" else BLKZEROOUT, struct.pack("QQ", *map(int, sys.argv[3:])))
' "$@"
}

[ -e /sys/class/net/v0 ] || rdma_wire
null_device disk 64 discard=1 cache_size=1 fua=1
modprobe loop
truncate -s 64M /tmp/file
losetup /dev/loop0 /tmp/file
kernel_server_start "${@:2}"
kernel_client_start
head -c 64k /dev/zero | tr '\0' U >/tmp/pattern
capture_start v0 "$LAB_SHARE/dialogue.pcap"

capture_remark "map /dev/disk, with write cache, FUA and discard; the partition scan reads"
device=$(kernel_map blya /dev/disk ip:10.0.0.1@ip:10.0.0.2)
capture_remark "a volume that does not exist"
expect_error "No such file" kernel_map blya /dev/nothing
capture_remark "write 4096 bytes at sector 16"
dd if=/tmp/pattern of="$device" bs=4k count=1 seek=2 oflag=direct status=none
capture_remark "read them"
dd if="$device" of=/dev/null bs=4k count=1 skip=2 iflag=direct status=none
capture_remark "write 65536 bytes at sector 128"
dd if=/tmp/pattern of="$device" bs=64k count=1 seek=1 oflag=direct status=none
capture_remark "write 4096 bytes at sector 0, forced to the medium, and flush"
dd if=/tmp/pattern of="$device" bs=4k count=1 oflag=direct,dsync status=none
capture_remark "discard 65536 bytes at sector 128"
block "$device" discard 65536 65536
capture_remark "map /dev/loop0, which can write zeroes"
zeroes=$(kernel_map blya /dev/loop0)
capture_remark "write 1 MiB of zeroes at sector 128, more than one request may carry"
block "$zeroes" zero 65536 1048576
capture_remark "flush"
block "$zeroes" flush
capture_remark "unmap /dev/loop0"
kernel_unmap "$zeroes"
sleep "$1"
capture_remark "unmap /dev/disk"
kernel_unmap "$device"
wait_until 10 test ! -e /sys/class/rtrs-server/blya
capture_stop
kernel_client_stop
kernel_server_stop
losetup -d /dev/loop0
null_device_remove disk
