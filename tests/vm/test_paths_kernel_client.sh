#!/usr/bin/env bash
# The kernel's RNBD client on two paths to our server (S25): paths are reset, swallowed and mended under a load of two devices.
# It sends again what was under way on a lost path at once, over the other one: our server keeps the order (R1 to R7).
# lab: --timeout 400
. "$LAB_LIB"

rdma_wires 2
before=$(rdma_counts)
mkdir -p /tmp/volumes
truncate -s 16M /tmp/volumes/one /tmp/volumes/two
printf '[server]\nheartbeat_interval = "500ms"\nheartbeat_missed_max = 3\n' >/tmp/rnbd.toml
server_start --config /tmp/rnbd.toml --listen ip:10.0.0.2 --listen ip:10.0.1.2 /tmp/volumes
trap '[ $? = 0 ] || { tail -n 20 /tmp/server.log; dmesg | tail -20; }' EXIT
kernel_client_start
kernel=(ip:10.0.0.1@ip:10.0.0.2 ip:10.0.1.1@ip:10.0.1.2)
one=$(kernel_map c1 one "${kernel[@]}")
two=$(kernel_map c1 two "${kernel[@]}")
paths=/sys/class/rtrs-client/c1/paths

connected() { is "$paths/${kernel[$1]}/state" connected; }
# The kernel tears the path down, if it is up, and connects it anew; without this it waits for a minute first.
reset() { echo 1 2>/dev/null >"$paths/${kernel[$1]}/reconnect" && connected "$1"; }
failed_over() { awk '{ sum += $6 } END { print sum }' "$paths"/*/stats/rdma; }
missed() { grep -q "path ${kernel[$1]} closed: the peer stopped answering heartbeats" /tmp/server.log; }

step "S25: one path is torn down and connected anew, again and again"
load_start "$one" "$two"
resets=0
# Whether requests are under way on a path at that moment is luck, so until some were.
until [ $resets -ge 4 ] && [ "$(failed_over)" -gt 0 ]; do
  [ $resets -lt 40 ] || fail "in $resets resets no request was under way on the path that was lost"
  wait_until 60 reset $((resets % 2))
  load_flows
  resets=$((resets + 1))
done
load_end "$resets resets, $(failed_over) requests sent again"

step "S25: a path is a black hole: both ends give it up, and it comes back"
load_start "$one" "$two"
wire_swallow 0
wait_until 60 missed 0
wait_until 60 not connected 0
load_flows
wire_deliver 0
wait_until 100 reset 0
load_flows
load_end "a black hole"

kernel_unmap "$one"
kernel_unmap "$two"
kernel_client_stop
daemon_stop "$server"
expect_no_rdma_leak "$before"
