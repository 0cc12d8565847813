# For scripts that run in a guest of the lab: . "$LAB_LIB"
# Networks with RDMA, block devices, the kernel's RNBD and ours, checks. What fails ends the script with a reason.
set -euo pipefail

# --- checks -----------------------------------------------------------------------------------------------------------
fail() { echo "FAIL: $*" >&2; exit 1; }
step() { echo "-- $*"; }
skip() { echo "SKIP: $*"; exit 77; }
# wait_until SECONDS COMMAND...: polls until the command succeeds.
wait_until() {
  local seconds=$1 end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || fail "waited $seconds s in vain for: $*"
    sleep 0.05
  done
}
# expect_equal WHAT IS SHOULD
expect_equal() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
# expect_error TEXT COMMAND...: the command must fail and say TEXT.
expect_error() {
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then fail "succeeded, but should not: $*"; fi
  [[ $output == *"$text"* ]] || fail "'$*' failed with '$output', not with '$text'"
}
not() { ! "$@"; }
attribute() { cat "$1" 2>/dev/null; }
is() { [ "$(attribute "$1")" = "$2" ]; }  # is FILE VALUE: for wait_until
kernel_said() { dmesg | grep -qE "$1"; }

# --- networks with RDMA over UDP ----------------------------------------------------------------------------------------
# rdma_wire [MTU]: two RDMA devices, rxe0 and rxe1, joined by a wire on which tcpdump and netem work (interfaces v0 and v1);
# 10.0.0.1 and fd00::1 are reached through rxe0's end, 10.0.0.2 and fd00::2 through rxe1's, from this same guest.
# rdma_wires COUNT [MTU]: more of them: wire N has v2N, rxe2N, 10.0.N.1, fd00:0:0:N::1 at one end, v2N+1 and so on at the other.
# The RDMA driver knows one network namespace only, so routing rules keep the traffic between the two on the wire.
rdma_wire() { rdma_wires 1 "$@"; }
rdma_wires() {
  local wire end
  sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.arp_ignore=1
  for ((wire = 0; wire < $1; wire++)); do
    ip link add "v$((2 * wire))" mtu "${2:-4200}" type veth peer name "v$((2 * wire + 1))" mtu "${2:-4200}"
    for end in $((2 * wire)) $((2 * wire + 1)); do
      sysctl -qw "net.ipv4.conf.v$end.accept_local=1" "net.ipv4.conf.v$end.rp_filter=0" \
        "net.ipv6.conf.v$end.router_solicitations=0" "net.ipv6.conf.v$end.keep_addr_on_down=1"
      ip addr add "10.0.$wire.$((end % 2 + 1))/24" dev "v$end" noprefixroute
      ip addr add "fd00:0:0:$wire::$((end % 2 + 1))/64" dev "v$end" nodad noprefixroute
      # Now, not when packets are to be dropped: it stops the interface for a moment, and what rdma_rxe cannot send breaks
      # its queue pairs, the one for new connections too.
      tc qdisc add dev "v$end" clsact
      ip link set "v$end" up
    done
  done
  for ((end = 0; end < 2 * $1; end++)); do
    rdma_wire_rules "$end"
    rdma_wire_routes "$end"
    rdma link add "rxe$end" type rxe netdev "v$end"
  done
  for end in "" -6; do
    ip $end rule add pref 100 lookup local
    ip $end rule del pref 0
  done
  for ((end = 0; end < 2 * $1; end++)); do wait_until 10 rdma_active "rxe$end"; done
}
rdma_wire_hosts() { # END: of both families, what is reached from there, and as whom: "FAMILY TO FROM"
  echo "-4 10.0.$(($1 / 2)).$((2 - $1 % 2)) 10.0.$(($1 / 2)).$(($1 % 2 + 1))"
  echo "-6 fd00:0:0:$(($1 / 2))::$((2 - $1 % 2)) fd00:0:0:$(($1 / 2))::$(($1 % 2 + 1))"
}
rdma_wire_rules() { # END: what goes to the other end never takes a shortcut, even when the wire is cut
  local family to from
  while read -r family to from; do
    ip $family rule add pref 5 iif "v$1" lookup local
    ip $family rule add pref $((10 + $1)) to "$to" lookup $((10 + $1))
    ip $family route add unreachable "$to" metric 9999 table $((10 + $1))
  done < <(rdma_wire_hosts "$1")
}
rdma_wire_routes() { # END: these go with the interface
  local family to from
  while read -r family to from; do
    ip neigh replace "$to" dev "v$1" lladdr "$(attribute "/sys/class/net/v$(($1 ^ 1))/address")" nud permanent
    ip $family route replace "$to" dev "v$1" src "$from" metric 1 table $((10 + $1))
  done < <(rdma_wire_hosts "$1")
}
# wire_cut WIRE: its first end goes down, which both ends are told of; wire_mend brings it back, though not for RDMA:
# no packet of a new connection was seen to leave rdma_rxe after it.
wire_cut() { ip link set "v$((2 * $1))" down; }
wire_mend() {
  ip link set "v$((2 * $1))" up
  rdma_wire_routes $((2 * $1))
  rdma_wire_routes $((2 * $1 + 1))
}
# wire_swallow WIRE: everything that is sent there is lost and nobody is told; wire_deliver ends it.
wire_swallow() {
  local end
  for end in $((2 * $1)) $((2 * $1 + 1)); do tc filter add dev "v$end" ingress matchall action drop; done
}
wire_deliver() {
  tc filter del dev "v$((2 * $1))" ingress
  tc filter del dev "v$((2 * $1 + 1))" ingress
}
rdma_active() { [[ $(rdma link show "$1/1") == *"state ACTIVE"* ]]; }
# rdma_loop: one RDMA device, rxe0, with 10.0.0.1, 10.0.0.2, fd00::1 and fd00::2; it talks to itself without a wire.
rdma_loop() {
  local host
  ip link add d0 mtu 4200 type dummy
  for host in 1 2; do
    ip addr add "10.0.0.$host/24" dev d0
    ip addr add "fd00::$host/64" dev d0 nodad
  done
  ip link set d0 up
  rdma link add rxe0 type rxe netdev d0
  wait_until 10 rdma_active rxe0
}
# rdma_guest [MTU]: with two guests: rxe0 on the cable between them; guest 0 is 10.0.0.1 and fd00::1, guest 1 the other.
rdma_guest() {
  ip addr add "10.0.0.$((ROLE + 1))/24" dev eth0
  ip addr add "fd00::$((ROLE + 1))/64" dev eth0 nodad
  tc qdisc add dev eth0 clsact
  ip link set eth0 up mtu "${1:-4200}"
  rdma link add rxe0 type rxe netdev eth0
  wait_until 10 rdma_active rxe0
  lab barrier rdma_guest
}
# drop_every N INTERFACE: loses every Nth packet that arrives there, the same ones in every run; drop_nothing ends it.
drop_every() {
  tc filter add dev "$2" ingress matchall action gact ok random determ drop "$1"
}
drop_nothing() { tc filter del dev "$1" ingress; }
# capture_start INTERFACE FILE: captures all RDMA packets from now on; capture_stop ends it.
capture_start() {
  tcpdump --immediate-mode -B 65536 -U -i "$1" -w "$2" udp portrange 4791-4792 2>/tmp/tcpdump.log &
  capture=$!
  wait_until 10 grep -q listening /tmp/tcpdump.log
}
capture_remark() { echo -n "$*" >/dev/udp/10.0.0.2/4792; }  # a comment in what trace.py makes of it, on a wire of rdma_wire
capture_stop() {
  sleep 0.5  # the last packets are on their way to the file
  kill -INT "$capture"
  wait "$capture" || true
  grep -q '^0 packets dropped by kernel' /tmp/tcpdump.log || fail "the capture has gaps: $(cat /tmp/tcpdump.log)"
}
# rdma_counts: what the RDMA devices hold: for comparing before and after. Completion queues without users do not count:
# the kernel keeps those of its modules for the next one.
rdma_counts() {
  local kind
  for kind in pd cq qp cm_id mr ctx; do
    printf '%s %d ' "$kind" "$(rdma resource show "$kind" | grep -vc ' users 0 ')"
  done
}
rdma_counts_are() { [ "$(rdma_counts)" = "$1" ]; }
# expect_no_rdma_leak COUNTS: the devices hold again what they held then; what was closed may take a moment to go.
expect_no_rdma_leak() {
  local end=$((SECONDS + 20))
  until rdma_counts_are "$1"; do
    if [ $SECONDS -ge $end ]; then
      for kind in qp cq pd mr cm_id ctx; do rdma resource show "$kind" | sed "s/^/$kind: /"; done
      fail "RDMA objects leaked: before $1, now $(rdma_counts)"
    fi
    sleep 0.1
  done
}

# --- block devices ------------------------------------------------------------------------------------------------------
# null_device NAME MIB [ATTRIBUTE=VALUE...]: /dev/NAME that keeps what is written to it, unless memory_backed=0 is given.
null_device() {
  local folder=/sys/kernel/config/nullb/$1 setting
  grep -q '^null_blk ' /proc/modules || modprobe null_blk nr_devices=0
  mkdir "$folder"
  for setting in "size=$2" memory_backed=1 "${@:3}"; do echo "${setting#*=}" >"$folder/${setting%%=*}"; done
  echo 1 >"$folder/power"
  wait_until 5 test -b "/dev/$1"
}
null_device_remove() { rmdir "/sys/kernel/config/nullb/$1"; }
# ram_devices COUNT MIB: /dev/ram0 and so on.
ram_devices() { modprobe brd rd_nr="$1" rd_size=$(($2 * 1024)); }
# fio_verify DEVICE [FIO OPTION...]: random writes and reads of mixed sizes, every block checked by a checksum in it.
fio_verify() {
  local device=$1
  shift
  fio --name=verify --filename="$device" --ioengine=libaio --direct=1 --rw=randrw --bssplit=4k/60:16k/20:64k/15:124k/5 \
    --iodepth=16 --size=16m --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=1 --group_reporting \
    --minimal "$@" >/tmp/fio.out 2>&1 || { cat /tmp/fio.out; fail "fio --verify on $device"; }
}

# load_start DEVICE...: stamped blocks are written and read there, every read is judged; needs the checker rnbd-stamp.
# load_flows [N]: so many more requests end well. load_end WHAT: ends it, all is read back; not one request failed, not one
# block was stale or another device's; the pauses that were seen are printed, the longest is $pause, in ms.
load_start() {
  [ -x "$RNBD_BIN/rnbd-stamp" ] || skip "built without rnbd-stamp"
  echo 0 >/tmp/progress
  "$RNBD_BIN/rnbd-stamp" "$@" --seconds=0 --depth=16 --blocks=256 --hang=90 --progress=/tmp/progress >/tmp/stamp.json 2>&1 &
  load=$!
  load_flows
}
load_flows() { wait_until 60 load_is_past $(($(load_count) + ${1:-100})); }
load_is_past() {
  kill -0 "$load" 2>/dev/null || { cat /tmp/stamp.json; fail "the load ended by itself"; }
  [ "$(load_count)" -ge "$1" ]
}
load_count() { echo $((10#0$(</tmp/progress))); }
load_end() {
  local status=0 count
  kill -TERM "$load"
  wait "$load" || status=$?
  [ $status -eq 0 ] || { cat /tmp/stamp.json; fail "$1: the load ended with status $status"; }
  read -r count pause < <(python3 -c '
import json
said = json.load(open("/tmp/stamp.json"))
print(said["operations"]["all"], round(max(said["longest_gap_ms"], said["longest_request_ms"])))')
  echo "   $1: $count requests, the longest pause was $pause ms"
}

# --- the kernel's RNBD ----------------------------------------------------------------------------------------------------
kernel_client=/sys/class/rnbd-client/ctl
kernel_server=/sys/class/rnbd-server/ctl
# kernel_server_start [PARAMETER=VALUE...]: those of rtrs-server; %port=N sets rnbd-server's port.
kernel_server_start() {
  local rtrs=() rnbd=() word
  for word in "$@"; do
    case $word in port_nr=* | dev_search_path=*) rnbd+=("$word") ;; *) rtrs+=("$word") ;; esac
  done
  modprobe rtrs-server "${rtrs[@]}"
  modprobe rnbd-server "${rnbd[@]}"
}
kernel_server_stop() { modprobe -r rnbd-server rtrs-server; }
kernel_client_start() { modprobe rnbd-client; }
kernel_client_stop() { modprobe -r rnbd-client; }
# kernel_map SESSION VOLUME PATH... [WORD=VALUE...]: maps with the kernel's client and prints the device, /dev/rnbdN.
kernel_map() {
  local line="sessname=$1" word link
  for word in "${@:3}"; do
    case $word in ip:*) line+=" path=$word" ;; *) line="$word $line" ;; esac  # dest_port= counts for the paths behind it
  done
  echo "$line device_path=$2" >"$kernel_client/map_device" || return 1
  link="$kernel_client/devices/${2//\//!}@$1"
  basename "$(readlink -f "$link")" | sed 's,^,/dev/,'
}
kernel_unmap() { echo "${2:-normal}" >"/sys/block/${1#/dev/}/rnbd/unmap_device"; }

# --- systemd (run --systemd): the script runs in every boot anew, $BOOT tells which ------------------------------------
# guest_reboot: ends the script; the machine is shut down as systemd does it, and starts again.
guest_reboot() {
  date +%s >/var/lab-shutdown
  touch /run/lab/reboot
  exit 0
}
# shutdown_seconds: how long the shutdown before this boot took.
shutdown_seconds() { echo $(($(date +%s) - $(cut -d. -f1 /proc/uptime) - $(cat /var/lab-shutdown))); }
# guest_keep FILE...: of /etc, which is made anew in each boot: there again in the next.
guest_keep() { (cd /etc && mkdir -p /var/etc && cp -a --parents "$@" /var/etc/); }

# --- ours -----------------------------------------------------------------------------------------------------------------
: "${RNBD_BIN:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/release/bin}"
rnbd() { "$RNBD_BIN/rnbd" "$@"; }
server_answers() { rnbd --socket=/run/rnbd/server.sock ping >/dev/null 2>&1; }
client_answers() { rnbd --socket=/run/rnbd/client.sock ping >/dev/null 2>&1; }
# server_start [OPTION...]: our server, in the background; its log is /tmp/server.log, its process id $server.
server_start() {
  mkdir -p /run/rnbd
  "$RNBD_BIN/rnbd-server" --socket /run/rnbd/server.sock "$@" >>/tmp/server.log 2>&1 &
  server=$!
  wait_until 30 daemon_up "$server" server_answers /tmp/server.log
}
client_start() {
  mkdir -p /run/rnbd
  "$RNBD_BIN/rnbd-client" --socket /run/rnbd/client.sock "$@" >>/tmp/client.log 2>&1 &
  client=$!
  wait_until 30 daemon_up "$client" client_answers /tmp/client.log
}
daemon_up() { # PID ANSWERS LOG
  kill -0 "$1" 2>/dev/null || { cat "$3"; fail "a daemon did not start"; }
  "$2"
}
# daemon_stop PID: ends it politely; it must then end by itself, with status 0.
daemon_stop() {
  local status=0
  kill -TERM "$1"
  wait "$1" || status=$?
  [ $status -eq 0 ] || { cat /tmp/server.log /tmp/client.log 2>/dev/null; fail "a daemon ended with status $status"; }
}
