#!/usr/bin/env bash
# The port of the RDMA device goes down: both our ends let go of the path at once, sooner than any heartbeat would, and
# nothing is left over at the end.
# lab: --timeout 200
. "$LAB_LIB"

rdma_loop
before=$(rdma_counts)
mkdir -p /tmp/volumes
truncate -s 32M /tmp/volumes/disk
server_start --listen ip:10.0.0.2 -- /tmp/volumes
client_start --frontend ublk
rnbd map "sessname=s1 path=ip:10.0.0.1@rdma:10.0.0.2 device_path=disk" >/dev/null
dd if=/dev/rnbd0 of=/dev/null bs=64k count=16 iflag=direct status=none
said() { grep -qE "$2" "$1"; }

step "down"
ip link set d0 down
wait_until 3 said /tmp/client.log "path .* lost: Network is down"
wait_until 3 said /tmp/server.log "path .* closed: Network is down"
step "nothing is left over"
rnbd unmap --force rnbd0 >/dev/null
daemon_stop "$client"
daemon_stop "$server"
expect_no_rdma_leak "$before"
