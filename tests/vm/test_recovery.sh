#!/usr/bin/env bash
# Our client daemon dies under load and a new one takes its ublk devices over: no I/O error, no lost write.
# lab: --timeout 600
. "$LAB_LIB"

mkdir -p /tmp/volumes
truncate -s 64M /tmp/volumes/disk
truncate -s 64M /tmp/volumes/fs
rdma_loop
server_start --listen ip:10.0.0.2 -- /tmp/volumes

kill_client() {
  kill -KILL "$client"
  wait "$client" || true
}
under_load() { # PATH: kills the client again and again while fio writes and checks
  client_start --frontend ublk
  rnbd map "sessname=s1 path=$1 device_path=disk" >/dev/null
  rnbd map "sessname=s1 device_path=fs" >/dev/null
  local disk=/dev/rnbd0 fs=/dev/rnbd1 node number
  node=$(readlink -f "$disk")
  mkfs.ext4 -q -F "$fs"
  mount "$fs" /mnt
  fio_verify "$disk" --size=32m --io_size=24m --rate_iops=60 &
  local load=$!
  for number in 1 2 3; do
    wait_until 20 busy "$node"
    echo "written before kill $number" >"/mnt/file$number"
    kill_client
    [ -b "$node" ] || fail "the block device went away with its daemon"
    client_start --frontend ublk
    wait_until 60 is_served
    sync -f /mnt
  done
  wait $load || fail "fio saw an error"
  expect_equal "the block device" "$(readlink -f "$disk")" "$node"
  for number in 1 2 3; do expect_equal "file$number" "$(cat "/mnt/file$number")" "written before kill $number"; done
  umount /mnt
  fsck.ext4 -fn "$fs" >/tmp/fsck.out 2>&1 || { cat /tmp/fsck.out; fail fsck; }
  rnbd unmap rnbd0 >/dev/null
  rnbd unmap rnbd1 >/dev/null
  daemon_stop "$client"
}
busy() { [ "$(awk '{ print $1 + $5 }' "/sys/block/${1#/dev/}/stat")" -gt $((${last_count:=0} + 50)) ] && last_count=$(awk '{ print $1 + $5 }' "/sys/block/${1#/dev/}/stat"); }
is_served() { rnbd list -o json | python3 -c 'import json, sys; d = json.load(sys.stdin)["devices"]; sys.exit(not (len(d) == 2 and all(x["state"] == "open" for x in d)))'; }

step "over RDMA"
under_load rdma:10.0.0.2
last_count=0
step "over TCP"
under_load tcp:10.0.0.2

step "an upgrade: the daemon ends by itself and leaves its devices"
printf '[client]\non_stop = "leave"\nfrontend = "ublk"\n' >/tmp/leave.toml
client_start --config /tmp/leave.toml
rnbd map "sessname=s1 path=rdma:10.0.0.2 device_path=disk" >/dev/null
last_count=0
fio_verify /dev/rnbd0 --size=32m --io_size=12m --rate_iops=100 &
load=$!
wait_until 20 busy "$(readlink -f /dev/rnbd0)"
daemon_stop "$client"
client_start --config /tmp/leave.toml
wait $load || fail "fio saw an error"
rnbd unmap rnbd0 >/dev/null
daemon_stop "$client"

step "a device whose volume is gone waits, and is given up by force"
client_start --frontend ublk
rnbd map "sessname=s1 path=tcp:10.0.0.2 device_path=disk" >/dev/null
kill_client
mv /tmp/volumes/disk /tmp/volumes/moved
client_start --frontend ublk
rnbd unmap --force rnbd0 >/dev/null
wait_until 20 not test -e /dev/ublkb0
daemon_stop "$client"
daemon_stop "$server"
