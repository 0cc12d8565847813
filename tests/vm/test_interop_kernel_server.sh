#!/usr/bin/env bash
# Our client against the kernel's RNBD server over RDMA. Cases are named as in docs/interop.md.
# lab: --timeout 600
. "$LAB_LIB"

us=ip:10.0.0.1
them=10.0.0.2
rdma_wire
before=$(rdma_counts)
null_device disk 64 discard=1
null_device other 16 blocksize=4096
ram_devices 1 16

# map VOLUME [WORD...]: maps it with our client and prints the device.
map() { rnbd map "sessname=s1 path=$us,rdma:$them device_path=$1" "${@:2}" >/dev/null && readlink -f /dev/rnbd0; }
unmap_all() {
  local device
  for device in $(rnbd list --no-headers | awk '{ print $1 }'); do rnbd unmap "$device" >/dev/null; done
}
field() { rnbd show "$1" -o json | python3 -c 'import json,sys; d=json.load(sys.stdin); print(eval("d"+sys.argv[1]))' "$2"; }
server_sessions() { ls /sys/class/rtrs-server 2>/dev/null | grep -v '^ctl$' | wc -l; }
no_session_there() { [ "$(server_sessions)" -eq 0 ]; }
path_is() { [ "$(field s1 '["sessions"][0]["paths"][0]["state"]')" = "$1" ]; }

round() { # NAME SERVER-PARAMETER...: a whole dialogue with a server of these parameters
  step "$1"
  kernel_server_start "${@:2}"
  client_start
  local device
  device=$(map /dev/disk)
  [ -b "$device" ] || fail "no block device: $device"
  expect_equal size "$(blockdev --getsize64 "$device")" $((64 << 20))
  expect_equal fabric "$(field s1 '["sessions"][0]["paths"][0]["fabric"]')" verbs
  expect_equal device "$(field s1 '["sessions"][0]["paths"][0]["device"]')" rxe0/1
  fio_verify "$device" --size=4m
  unmap_all
  daemon_stop "$client"
  wait_until 10 no_session_there
  kernel_server_stop
}

round "C01 connect-min, C23 write-read-4k, C37 rkey-follow: always_invalidate=Y" always_invalidate=Y
round "C02 connect-min-N, C23 write-read-4k: always_invalidate=N" always_invalidate=N
round "C40 qd-odd: 100" sess_queue_depth=100 always_invalidate=N
round "C40 qd-odd: 300" sess_queue_depth=300
round "C41 chunk-sizes: 8192" max_chunk_size=8192
round "C41 chunk-sizes: 1 MiB" max_chunk_size=1048576 sess_queue_depth=64

step "C19 open-modes, C20 open-errors, C21 open-perm"
kernel_server_start
client_start
expect_error "no volume" map /dev/none
expect_error "neither a file nor a block device" map /dev/null
expect_error "refuses the name" map ../etc/passwd
device=$(map /dev/disk)
expect_error "open for writing" rnbd map "sessname=s2 path=rdma:$them device_path=/dev/disk"
rnbd map "sessname=s2 path=rdma:$them device_path=/dev/disk access_mode=ro" >/dev/null
expect_equal "ro device" "$(blockdev --getro /dev/rnbd1)" 1
expect_error "not permitted" dd if=/dev/zero of=/dev/rnbd1 bs=4k count=1 oflag=direct
rnbd unmap rnbd1 >/dev/null

step "C23-C31: data, flush, discard, write zeroes reach the disk"
dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
dd if=/tmp/data of="$device" bs=1M oflag=direct conv=fsync status=none
cmp -n $((4 << 20)) /tmp/data /dev/disk || fail "C24: the disk behind the server holds other data"
cmp -n $((4 << 20)) /tmp/data "$device" || fail "C24: the volume holds other data"
blkdiscard -z -o 1M -l 2M "$device"
cmp -n $((2 << 20)) /dev/zero <(dd if="$device" bs=1M skip=1 count=2 iflag=direct status=none) || fail "C31: not zeroes"
blkdiscard -o 3M -l 1M "$device" || fail "C30: discard"

step "mkfs, mount, fsck"
mkfs.ext4 -q -F "$device"
mount "$device" /mnt
cp -r /etc/apt /mnt
sync
umount /mnt
fsck.ext4 -fn "$device" >/tmp/fsck.out 2>&1 || { cat /tmp/fsck.out; fail fsck; }

step "C25, S19: a disk of 4096-byte blocks"
rnbd map "sessname=s1 device_path=/dev/other" >/dev/null
expect_equal "logical block size" "$(blockdev --getss /dev/rnbd1)" 4096
fio_verify /dev/rnbd1 --size=1m --bssplit=4k/50:16k/50
rnbd unmap rnbd1 >/dev/null

step "C51 force-close: the device comes back by itself or says what to do"
ls -d /sys/class/rnbd-server/ctl/devices/*/sessions/* >/dev/null
unmap_all

step "C45 srv-disconnect: we reconnect and go on"
device=$(map /dev/disk)
echo 1 >"$(ls -d /sys/class/rtrs-server/s1/paths/*/disconnect | head -1)"
wait_until 60 path_is connected
dd if="$device" of=/dev/null bs=4k count=64 iflag=direct status=none || fail "C45: reading after the reconnect"

step "C59 restart-stale: a killed client's successor maps again"
kill -KILL "$client"
wait "$client" || true
client_start
wait_until 60 test -b /dev/rnbd0
fio_verify /dev/rnbd0 --size=1m
unmap_all

step "100 map/unmap cycles"
python3 - "$us" "rdma:$them" <<'PYTHON'
import json, socket, sys

daemon = socket.socket(socket.AF_UNIX)
daemon.connect("/run/rnbd/client.sock")
lines = daemon.makefile("rw")


def ask(**request):
    lines.write(json.dumps({"version": 1, **request}) + "\n")
    lines.flush()
    answer = json.loads(lines.readline())
    if not answer["ok"]:
        sys.exit(f"cycle {cycle}: {answer}")
    return answer


path = {"source": sys.argv[1], "destination": sys.argv[2], "port": 1234}
for cycle in range(100):
    ask(command="map", map={"session": "s1", "paths": [path], "device_path": "/dev/ram0"})
    ask(command="unmap", target="rnbd0")
PYTHON

step "C54 ipv6, C55 source-address"
rnbd map "sessname=s6 path=ip:fd00::1@rdma:fd00::2 device_path=/dev/disk" >/dev/null
dd if=/dev/rnbd0 of=/dev/null bs=4k count=16 iflag=direct status=none
unmap_all
daemon_stop "$client"
wait_until 10 no_session_there
kernel_server_stop

step "C56 dest-port"
kernel_server_start port_nr=4321
client_start
rnbd map "sessname=s1 dest_port=4321 path=rdma:$them device_path=/dev/disk" >/dev/null
unmap_all
daemon_stop "$client"
wait_until 10 no_session_there
kernel_server_stop
expect_no_rdma_leak "$before"
