#!/usr/bin/env bash
# The lab itself: the kernel's client maps a volume of the kernel's server over RDMA, and everything we compare with is there.
. "$LAB_LIB"

step "two RDMA devices on a wire"
rdma_wire
before=$(rdma_counts)

step "kernel client and kernel server over rdma_rxe"
null_device disk 64
kernel_server_start
kernel_client_start
device=$(kernel_map lab /dev/disk ip:10.0.0.1@ip:10.0.0.2)
expect_equal "the device's session" "$(attribute "/sys/block/${device#/dev/}/rnbd/session")" lab
expect_equal "the device's size" "$(blockdev --getsize64 "$device")" $((64 << 20))
packets=$(attribute /sys/class/net/v0/statistics/tx_packets)
dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
dd if=/tmp/data of="$device" bs=128k oflag=direct status=none
cmp -n $((4 << 20)) /tmp/data "$device" || fail "the volume holds other data than was written"
cmp -n $((4 << 20)) /tmp/data /dev/disk || fail "the disk behind the server holds other data than was written"
[ $(($(attribute /sys/class/net/v0/statistics/tx_packets) - packets)) -gt 1000 ] || fail "the data did not travel over the wire"
fio_verify "$device" --size=4m
kernel_unmap "$device"
[ ! -e "$device" ] || fail "$device is still there after the unmap"

step "the same over IPv6"
device=$(kernel_map lab6 /dev/disk ip:fd00::1@ip:fd00::2)
cmp -n $((4 << 20)) "$device" /dev/disk || fail "the volume holds other data than the disk"
kernel_unmap "$device"

step "nothing is left over"
kernel_client_stop
kernel_server_stop
expect_no_rdma_leak "$before"
null_device_remove disk

step "ublk, nbd and NVMe over TCP are there"
[ -c /dev/ublk-control ] || fail "no /dev/ublk-control"
modprobe -a nbd nvme-tcp nvmet-tcp
[ -b /dev/nbd0 ] || fail "no /dev/nbd0"
