#!/usr/bin/env bash
# The kernel's RNBD client against our server over RDMA: hardened writes, blocks of 4096 bytes, poll queues, a frozen server.
# lab: --timeout 600
. "$LAB_LIB"

rdma_wire
before=$(rdma_counts)
mkdir -p /tmp/volumes
truncate -s 64M /tmp/volumes/disk
kernel_client_start
serve() { # [KEY=VALUE...]: our server with these settings
  printf '%s\n' '[server]' "${@/=/ = }" >/tmp/rnbd.toml
  server_start --config /tmp/rnbd.toml --listen ip:10.0.0.2 /tmp/volumes
}
map() { kernel_map c1 disk ip:10.0.0.1@ip:10.0.0.2 "$@"; }
path=/sys/class/rtrs-client/c1/paths

step "S13 fua, S15 discard"
serve
device=$(map)
dd if=/dev/urandom of=/tmp/data bs=64k count=16 status=none
dd if=/tmp/data of="$device" bs=64k oflag=direct,dsync status=none
cmp -n $((1 << 20)) /tmp/data /tmp/volumes/disk || fail "S13: other data"
full=$(stat -c %b /tmp/volumes/disk)
blkdiscard -f -l 1M "$device"
[ "$(stat -c %b /tmp/volumes/disk)" -lt "$full" ] || fail "S15: nothing was freed"

step "S34 hb-latency"
latency_is_told() { [ "$(cat "$path"/*/cur_latency | grep -oE '[0-9]+' | head -1)" -gt 0 ]; }
wait_until 30 latency_is_told

step "S29 server-freeze: the client gives the path up, and is back when the server thaws"
path_is() { [ "$(cat "$path"/*/state)" = "$1" ]; }
dd if=/tmp/data of="$device" bs=64k oflag=direct status=none
kill -STOP "$server"
wait_until 90 not path_is connected
kill -CONT "$server"
wait_until 90 path_is connected
cmp -n $((1 << 20)) /tmp/data <(dd if="$device" bs=64k count=16 iflag=direct status=none) || fail "S29: other data"
fio_verify "$device" --size=2m
kernel_unmap "$device"

step "S38 poll-queues"
device=$(map nr_poll_queues=1)
fio_verify "$device" --size=2m --ioengine=io_uring --hipri
kernel_unmap "$device"
daemon_stop "$server"

step "S19 4Kn"
serve block_size=4096
device=$(map)
expect_equal "logical block size" "$(blockdev --getss "$device")" 4096
fio_verify "$device" --size=4m
kernel_unmap "$device"
kernel_client_stop
daemon_stop "$server"
expect_no_rdma_leak "$before"
