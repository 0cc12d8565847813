#!/usr/bin/env bash
# One dialogue of an RNBD client and server over RDMA, captured into $LAB_SHARE/dialogue.pcap:
# guest/dialogue.sh CLIENT SERVER SECONDS [PARAMETER=VALUE...]; CLIENT and SERVER are kernel or ours, SECONDS of silence for
# heartbeats, the rest for the kernel's rtrs-server.
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
case $1 in
  kernel)
    kernel_client_start
    map() { kernel_map blya "$1" ip:10.0.0.1@ip:10.0.0.2; }
    unmap() { kernel_unmap "$1"; }
    client_stop() { kernel_client_stop; } ;;
  ours)
    client_start
    map() { rnbd map "sessname=blya path=ip:10.0.0.1,rdma:10.0.0.2 device_path=$1" -o json >/tmp/map.json &&
      python3 -c 'import json; print(json.load(open("/tmp/map.json"))["devices"][0]["node"])'; }
    unmap() { rnbd unmap "$1" >/dev/null; }
    client_stop() { daemon_stop "$client"; } ;;
esac
case $2 in
  kernel)
    kernel_server_start "${@:4}"
    server_stop() { kernel_server_stop; } ;;
  ours)
    server_start --listen ip:10.0.0.2 /
    server_stop() { daemon_stop "$server"; } ;;
esac
head -c 64k /dev/zero | tr '\0' U >/tmp/pattern
capture_start v0 "$LAB_SHARE/dialogue.pcap"

capture_remark "map /dev/disk, with write cache, FUA and discard; the partition scan reads"
device=$(map /dev/disk)
capture_remark "a volume that does not exist"
not map /dev/nothing 2>/tmp/said
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
zeroes=$(map /dev/loop0)
capture_remark "write 1 MiB of zeroes at sector 128, more than one request may carry"
block "$zeroes" zero 65536 1048576
capture_remark "flush"
block "$zeroes" flush
capture_remark "unmap /dev/loop0"
unmap "$zeroes"
sleep "$3"
capture_remark "unmap /dev/disk"
unmap "$device"
capture_stop
client_stop
server_stop
losetup -d /dev/loop0
null_device_remove disk
