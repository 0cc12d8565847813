#!/usr/bin/env bash
# Our client against the kernel's RNBD server over RDMA: what its administrator does, and its namespace.
# lab: --timeout 600
. "$LAB_LIB"

them=10.0.0.2
rdma_wire
before=$(rdma_counts)
null_device disk 64
exports=/sys/class/rnbd-server/ctl/devices
export_is_there() { [ -d "$exports/disk/sessions/s1" ]; }
reads() { dd if=/dev/rnbd0 of=/dev/null bs=4k count=64 iflag=direct status=none; }

step "C52, C53: what we close is closed there"
kernel_server_start
client_start
rnbd map "sessname=s1 path=rdma:$them device_path=/dev/disk" >/dev/null
wait_until 5 export_is_there
rnbd unmap rnbd0 >/dev/null
wait_until 10 not export_is_there
wait_until 20 not test -e /sys/class/rtrs-server/s1

step "C51 force-close: the device is opened anew"
rnbd map "sessname=s1 path=rdma:$them device_path=/dev/disk" >/dev/null
wait_until 5 export_is_there
echo 1 >"$exports/disk/sessions/s1/force_close"
reads || fail "reading after the volume was closed by force"
wait_until 5 export_is_there

step "C46 srv-reload: a server that was unloaded and loaded again"
fio_verify /dev/rnbd0 --size=32m --io_size=8m --rate_iops=60 &
load=$!
wait_until 20 test "$(awk '{ print $1 + $5 }' /sys/block/ublkb0/stat)" -gt 0
kernel_server_stop
kernel_server_start
wait $load || fail "fio saw an error"
rnbd unmap rnbd0 >/dev/null

step "C58 sessname-namespace"
wait_until 20 not test -e /sys/class/rtrs-server/s1
kernel_server_stop
kernel_server_start 'dev_search_path=/dev/%SESSNAME%'
mkdir /dev/s1
ln -s /dev/disk /dev/s1/mine
rnbd map "sessname=s1 path=rdma:$them device_path=mine" >/dev/null
reads
rnbd unmap rnbd0 >/dev/null
expect_error "no volume" rnbd map "sessname=s1 path=rdma:$them device_path=other"
daemon_stop "$client"
wait_until 20 not test -e /sys/class/rtrs-server/s1
kernel_server_stop
expect_no_rdma_leak "$before"
