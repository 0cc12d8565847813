#!/usr/bin/env bash
# Our client on two paths to the kernel's RNBD server (C48): paths are cut, reset and swallowed under a load of two devices.
# No request fails, no block is stale or another device's, and the writes of a lost path wait for the fence that fits:
# F1, the path was accepted anew; F2, CLOSE over the other path; F3, enough time has passed.
# lab: --timeout 400
. "$LAB_LIB"

rdma_wires 2
trap '[ $? = 0 ] || { tail -40 /tmp/client.log; rnbd show s1; }' EXIT
before=$(rdma_counts)
null_device one 16
null_device two 16
kernel_server_start
cat >/tmp/rnbd.toml <<'END'
[client]
frontend = "ublk"
heartbeat_interval = "500ms"
heartbeat_missed_max = 3
reconnect_delay = "20ms"
reconnect_delay_max = "500ms"
connect_timeout = "5s"
backend_patience = "1s"
END
client_start --config /tmp/rnbd.toml
paths=(ip:10.0.0.1@rdma:10.0.0.2 ip:10.0.1.1@rdma:10.0.1.2)
rnbd map "sessname=s1 path=${paths[0]} path=${paths[1]} device_path=/dev/one" >/dev/null
rnbd map "sessname=s1 device_path=/dev/two" >/dev/null
devices=(/dev/rnbd0 /dev/rnbd1)

# What the session says of a path: path_field WIRE NAME.
path_field() {
  rnbd show s1 -o json | python3 -c 'import json, sys
print(next(p[sys.argv[2]] for p in json.load(sys.stdin)["sessions"][0]["paths"] if sys.argv[1] in p["destination"]))' "10.0.$1.2" "$2"
}
path_is() { [ "$(path_field "$1" state)" = "$2" ]; }
path_fenced() { [ "$(path_field "$1" fenced)" = True ]; }
log_mark() { mark=$(wc -l </tmp/client.log); }
log_since() { tail -n "+$((mark + 1))" /tmp/client.log; }
logged() { log_since | grep -qE "$1"; }
# rung WIRE: by which fence the path's last connection since log_mark was known to be over.
rung() { log_since | sed -nE "s/.*path .*10\.0\.$1\.2.* fenced: .*\((F[0-3])\)\$/\1/p" | tail -1; }
rung_is() { [ "$(rung "$1")" = "$2" ]; }
all_up() { path_is 0 connected && path_is 1 connected; }

reset() { echo 1 >"/sys/class/rtrs-server/s1/paths/ip:10.0.$1.1@ip:10.0.$1.2/disconnect"; }
came_back() { logged "path .*10.0.$1.2.* connected:"; }
all_open() { rnbd list -o json | python3 -c 'import json, sys
sys.exit(any(d["state"] != "open" for d in json.load(sys.stdin)["devices"]))'; }

step "F1: the server resets one path, which comes back at once"
load_start "${devices[@]}" --plain
resets=(0 1 0 1 0 1)
rungs=()
for wire in "${resets[@]}"; do
  log_mark
  reset "$wire"
  wait_until 60 came_back "$wire"
  wait_until 60 all_open
  load_flows
  rungs+=("$(rung "$wire")")
done
echo "   rungs: ${rungs[*]}"
[[ ${rungs[*]} == *F1* ]] || fail "no reset was fenced by the path that came back"
load_end "${#resets[@]} resets"

step "F2: one path is a black hole, and stays away"
load_start "${devices[@]}" --plain
log_mark
wire_swallow 0
wait_until 40 rung_is 0 F2
wait_until 20 path_fenced 0
load_flows
path_is 0 connected && fail "a path through a black hole is connected"
load_end "a black hole"

step "F1 without another path: the one that is left is reset again and again"
load_start "${devices[@]}" --plain
for round in 1 2 3; do
  log_mark
  reset 1
  wait_until 60 came_back 1
  wait_until 60 all_open
  load_flows
done
wire_deliver 0
wait_until 60 all_up  # when the server has missed the heartbeats of the old one
load_flows
load_end "3 resets of the only path"

step "F3: a new client process, and a path that stays away: it waits"
load_start "${devices[@]}" --plain
wire_swallow 0
kill -KILL "$client"
wait "$client" 2>/dev/null || true
log_mark
since=$SECONDS
client_start --config /tmp/rnbd.toml
wait_until 90 all_open
waited=$((SECONDS - since))
[ "$waited" -ge 36 ] || fail "opened after $waited s, sooner than the server misses a client and its disk is done"
expect_equal "the fence" "$(rung 0)" F3
path_is 0 connected && fail "a path through a black hole is connected"
load_flows
wire_deliver 0
wait_until 60 all_up
load_end "a successor that waited $waited s"
rnbd unmap rnbd0 >/dev/null
rnbd unmap rnbd1 >/dev/null
daemon_stop "$client"
wait_until 20 not test -e /sys/class/rtrs-server/s1
kernel_server_stop
null_device_remove one
null_device_remove two
expect_no_rdma_leak "$before"
