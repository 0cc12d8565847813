#!/usr/bin/env bash
# The lab with two guests: RDMA between them, a cable that can be pulled, packets that get lost, a machine that hangs.
# lab: --guests 2 --cpus 1 --timeout 180
. "$LAB_LIB"

rdma_guest
expect_equal "what the other guest left" "$(lab put from.$ROLE "guest $ROLE"; lab get from.$((1 - ROLE)))" "guest $((1 - ROLE))"

if [ "$ROLE" = 0 ]; then
  step "kernel server here, kernel client there"
  null_device disk 64
  before=$(rdma_counts)
  kernel_server_start
  lab put serving
  lab barrier unmapped
  wait_until 30 test ! -e /sys/class/rtrs-server/two
  kernel_server_stop
  expect_no_rdma_leak "$before"
  exit 0
fi

lab get serving
kernel_client_start
device=$(kernel_map two /dev/disk ip:10.0.0.1)

step "with every 50th packet lost, writes arrive all the same"
drop_every 50 eth0
dd if=/dev/urandom of=/tmp/data bs=4k count=100 status=none
dd if=/tmp/data of="$device" bs=4k oflag=direct status=none
tc -s filter show dev eth0 ingress | grep -q 'dropped [1-9]' || fail "no packet was lost: $(tc -s filter show dev eth0 ingress)"
drop_nothing eth0
cmp -n 409600 /tmp/data "$device" || fail "the volume holds other data than was written"

step "a frozen server answers once it goes on"
lab stop 0
dd if=/dev/zero of="$device" bs=4k count=1 oflag=direct status=none &
sleep 1
kill -0 $! || fail "a write was answered by a server that stands still"
lab cont 0
wait $!

step "a pulled cable is noticed, and all is well when it is plugged in again"
lab link 1 down
dd if="$device" of=/dev/null bs=4k count=1 iflag=direct status=none &
sleep 1
kill -0 $! || fail "a read was answered through a cut cable"
lab link 1 up
wait $!
kernel_unmap "$device"
kernel_client_stop
lab barrier unmapped
