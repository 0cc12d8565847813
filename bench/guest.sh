#!/usr/bin/env bash
# Runs in a guest of the lab that counts instructions (tests/vm/run --icount): fio through the block device of every pair.
# Prints "RESULT contender pattern ios nanoseconds mean_latency" for bench/run --guest; a nanosecond is an instruction.
. "$LAB_LIB"

patterns=${RNBD_BENCH_PATTERNS:-4k-read-qd1 4k-read-qd16 4k-read-qd32 4k-read-qd64 4k-write-qd32 128k-read-qd32 128k-write-qd32}
spin=${RNBD_BENCH_SPIN:-50us}
contenders=${RNBD_BENCH_CONTENDERS:-null_blk kernel ours-kernel kernel-ours ours ours-tcp nvme-tcp}

wants() { [[ " $contenders " == *" $1 "* ]]; }
measure() { # CONTENDER DEVICE
  local pattern size direction depth rw ios
  for pattern in $patterns; do
    IFS=- read -r size direction depth <<<"$pattern"
    depth=${depth#qd} rw=rand$direction ios=8000
    [ "$depth" != 1 ] || ios=3000
    if [ "$size" = 128k ]; then rw=$direction ios=800; fi
    fio_run "$2" "$rw" "$size" "$depth" $((ios / 4))  # everything is warm and grown
    fio_run "$2" "$rw" "$size" "$depth" "$ios"
    echo "RESULT $1 $pattern $(python3 -c '
import json, sys
job = json.load(open("/tmp/fio.out"))["jobs"][0]
io = max(job["read"], job["write"], key=lambda x: x["total_ios"])
print(io["total_ios"], int(1e9 / io["iops"] * io["total_ios"]), int(io["lat_ns"]["mean"]))')"
  done
}
fio_run() { # DEVICE RW SIZE DEPTH IOS
  fio --name=b --filename="$1" --ioengine=io_uring --direct=1 --rw="$2" --bs="$3" --iodepth="$4" --number_ios="$5" \
    --iodepth_batch_complete_max="$4" --randrepeat=1 --norandommap --output-format=json --output=/tmp/fio.out \
    >/tmp/fio.err 2>&1 || { cat /tmp/fio.err; fail "fio on $1"; }
}

rdma_loop
null_device disk 256 memory_backed=0 irqmode=0 queue_mode=2
printf '%s\n' '[server]' "spin = \"$spin\"" '[client]' "spin = \"$spin\"" 'frontend = "ublk"' >/tmp/rnbd.toml
our_device() { # PATH VOLUME: sets $device
  client_start --config /tmp/rnbd.toml
  rnbd map "sessname=bench path=$1 device_path=$2" >/dev/null
  device=$(readlink -f /dev/rnbd0)
}
our_device_gone() {
  rnbd unmap rnbd0 >/dev/null
  daemon_stop "$client"
}

if wants null_blk; then measure null_blk /dev/disk; fi

kernel_server_start
kernel_client_start
if wants kernel; then
  device=$(kernel_map bench /dev/disk ip:10.0.0.2)
  measure kernel "$device"
  kernel_unmap "$device"
fi
if wants ours-kernel; then
  our_device rdma:10.0.0.2 /dev/disk
  measure ours-kernel "$device"
  our_device_gone
fi
wait_until 20 not test -e /sys/class/rtrs-server/bench
kernel_server_stop

server_start --config /tmp/rnbd.toml --listen ip:10.0.0.2 --listen tcp:127.0.0.1 /dev
if wants kernel-ours; then
  device=$(kernel_map bench disk ip:10.0.0.2)
  measure kernel-ours "$device"
  kernel_unmap "$device"
fi
if wants ours; then
  our_device rdma:10.0.0.2 disk
  measure ours "$device"
  our_device_gone
fi
if wants ours-tcp; then
  our_device tcp:127.0.0.1 disk
  measure ours-tcp "$device"
  our_device_gone
fi
daemon_stop "$server"

if ! wants nvme-tcp; then exit 0; fi
modprobe -a nvmet-tcp nvme-tcp
subsystem=/sys/kernel/config/nvmet/subsystems/bench port=/sys/kernel/config/nvmet/ports/1
mkdir "$subsystem" "$subsystem/namespaces/1" "$port"
echo 1 >"$subsystem/attr_allow_any_host"
echo /dev/disk >"$subsystem/namespaces/1/device_path"
echo 1 >"$subsystem/namespaces/1/enable"
printf '%s\n' tcp >"$port/addr_trtype"
echo ipv4 >"$port/addr_adrfam"
echo 127.0.0.1 >"$port/addr_traddr"
echo 4420 >"$port/addr_trsvcid"
ln -s "$subsystem" "$port/subsystems/"
echo "transport=tcp,traddr=127.0.0.1,trsvcid=4420,nqn=bench" >/dev/nvme-fabrics
wait_until 10 test -b /dev/nvme0n1
measure nvme-tcp /dev/nvme0n1
