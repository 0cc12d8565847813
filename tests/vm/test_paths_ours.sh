#!/usr/bin/env bash
# Both ends ours, on two paths: over RDMA, and over RDMA and TCP. Paths are torn down, swallowed and cut under a load of two
# devices: our server fences them (F0), nothing is stale, and the pauses are short.
# lab: --timeout 400
. "$LAB_LIB"

rdma_wires 2
before=$(rdma_counts)
mkdir -p /tmp/volumes
truncate -s 16M /tmp/volumes/one /tmp/volumes/two
printf '[client]\nfrontend = "ublk"\nreconnect_delay = "20ms"\nreconnect_delay_max = "500ms"\nconnect_timeout = "5s"\n' >/tmp/rnbd.toml
server_start --listen ip:10.0.0.2 --listen ip:10.0.1.2 -- /tmp/volumes
trap '[ $? = 0 ] || { tail -qn 30 /tmp/client.log /tmp/server.log; rnbd show s1; }' EXIT

states() { # "WORD WORD" of both paths, in the order in which they were named
  rnbd show s1 -o json | python3 -c 'import json, sys
print(*(p["state"] for p in json.load(sys.stdin)["sessions"][0]["paths"]))'
}
states_are() { [ "$(states)" = "$1" ]; }
fenced() { rnbd show s1 -o json | python3 -c 'import json, sys
sys.exit(not all(p["fenced"] for p in json.load(sys.stdin)["sessions"][0]["paths"]))'; }
# A time is told, never judged: an emulated guest on a busy host may miss every goal.
goal() { echo "   $1: a pause of $pause ms, the goal is $2"; }
start() { # PATH PATH: a client with both volumes over these
  client_start --config /tmp/rnbd.toml
  rnbd map "sessname=s1 path=$1 path=$2 device_path=one" >/dev/null
  rnbd map "sessname=s1 device_path=two" >/dev/null
}
end() {
  rnbd unmap rnbd0 >/dev/null
  rnbd unmap rnbd1 >/dev/null
  daemon_stop "$client"
}
torn_down() { # PATH PATH
  load_start /dev/rnbd0 /dev/rnbd1
  for path in "$1" "$2" "$1" "$2" "$1" "$2"; do
    rnbd reconnect s1 "$path" >/dev/null
    wait_until 20 states_are "connected connected"
    load_flows
  done
  load_end "6 paths torn down"
}
swallowed() { # WIRE
  load_start /dev/rnbd0 /dev/rnbd1
  wire_swallow "$1"
  wait_until 20 not states_are "connected connected"
  wait_until 20 fenced
  load_flows
  load_end "a black hole"
  goal "a black hole" 1500
  load_start /dev/rnbd0 /dev/rnbd1
  wire_deliver "$1"
  wait_until 60 states_are "connected connected"
  load_flows
  load_end "the path is back"
}
cut() { # WIRE
  load_start /dev/rnbd0 /dev/rnbd1
  wire_cut "$1"
  wait_until 20 not states_are "connected connected"
  wait_until 20 fenced
  load_flows
  load_end "a link that was cut"
  goal "a cut link" 200
}
rdma0=ip:10.0.0.1@rdma:10.0.0.2
rdma1=ip:10.0.1.1@rdma:10.0.1.2
tcp1=ip:10.0.1.1@tcp:10.0.1.2

step "two paths over RDMA"
start $rdma0 $rdma1
rnbd list paths
torn_down $rdma0 $rdma1
swallowed 1
end

step "one over RDMA, one over TCP"
start $rdma0 $tcp1
torn_down $rdma0 $tcp1
swallowed 0
cut 1
wire_mend 1
wait_until 20 states_are "connected connected"
cut 0
end
daemon_stop "$server"
expect_no_rdma_leak "$before"
