#!/bin/bash
# In the guest: ublk devices of ours under everything that people put on a disk.
# lab: --timeout 400
# With the word "tools" ublk_guest_test's own tests are left out.
set -euo pipefail
bin=${RNBD_BIN:?directory of our programs}
failed() { echo "test_ublk: line $1 failed" >&2; }
trap 'failed $LINENO' ERR
cd /tmp
export LVM_SUPPRESS_FD_WARNINGS=1

[ -x "$bin/ublk_guest_test" ] || { echo "SKIP: ublk_guest_test is not built"; exit 77; }
[ "${1:-}" = tools ] || "$bin/ublk_guest_test" --gtest_brief=1

# disk NAME BYTES [BLOCK_SIZE]: serves a disk in memory; its node is in $NAME.
declare -A served=()
disk() {
  local name=$1
  shift
  mkfifo "/tmp/$name.in" "/tmp/$name.out"
  "$bin/ublk_guest_test" --memory "$@" <"/tmp/$name.in" >"/tmp/$name.out" &
  served[$name]=$!
  eval "exec {${name}_in}>/tmp/$name.in"
  read -r "${name?}" <"/tmp/$name.out"
}
# The disk goes, and refuses to while it is in use.
gone() {
  local name=$1 in=${1}_in
  echo end >&"${!in}"
  eval "exec {$in}>&-"
  wait "${served[$name]}"
  rm "/tmp/$name.in" "/tmp/$name.out"
}

echo "file system"
disk one $((256 << 20))
mkfs.ext4 -q -E nodiscard "$one"
mount "$one" /mnt
dd if=/dev/urandom of=/mnt/file bs=1M count=32 status=none conv=fsync
sum=$(sha256sum </mnt/file)
umount /mnt
fsck.ext4 -fn "$one" >/dev/null 2>&1
mount "$one" /mnt
[ "$(sha256sum </mnt/file)" = "$sum" ]
fstrim /mnt
umount /mnt
fsck.ext4 -fn "$one" >/dev/null 2>&1

echo "fio, verified"
fio --name=verify --filename="$one" --direct=1 --ioengine=libaio --rw=randrw --bsrange=4k-128k \
  --iodepth=16 --size=24m --verify=crc32c --verify_fatal=1 --randseed=1 --numjobs=2 --offset_increment=32m \
  --group_reporting --output=/tmp/fio.log || { cat /tmp/fio.log; exit 1; }
gone one

echo "LVM"
if command -v lvm >/dev/null; then
  disk one $((64 << 20))
  disk two $((64 << 20)) 4096
  # Devices by name as no udev runs here; volume groups of one kind of blocks.
  config='devices { filter=["a|/dev/ublkb.*|","r|.*|"] use_devicesfile=0 allow_mixed_block_sizes=1 } activation { udev_sync=0 udev_rules=0 } backup { backup=0 archive=0 } log { level=0 }'
  modprobe dm_mod
  lvm pvcreate -qq --config "$config" "$one" "$two"
  lvm vgcreate -qq --config "$config" rnbdtest "$one" "$two"
  lvm lvcreate -qq --config "$config" -y -n volume -l 100%FREE -Wn -Zn rnbdtest
  dd if=/dev/urandom of=/tmp/data bs=1M count=4 status=none
  dd if=/tmp/data of=/dev/mapper/rnbdtest-volume bs=1M oflag=direct seek=58 status=none # across both disks
  dd if=/dev/mapper/rnbdtest-volume bs=1M iflag=direct skip=58 count=4 status=none | cmp - /tmp/data
  lvm vgchange -qq --config "$config" -an rnbdtest
  lvm vgremove -qq --config "$config" -ff -y rnbdtest
  gone one
  gone two
else
  echo "  skipped: no lvm here"
fi

echo "RAID"
if command -v mdadm >/dev/null && modprobe raid1 2>/dev/null; then
  disk one $((32 << 20))
  disk two $((32 << 20))
  mdadm --create /dev/md0 --quiet --run --level=1 --raid-devices=2 --metadata=1.2 "$one" "$two" >/dev/null 2>&1
  mdadm --wait --quiet /dev/md0 || true  # fails when there is nothing to wait for
  mkfs.ext4 -q /dev/md0
  fsck.ext4 -fn /dev/md0 >/dev/null 2>&1
  mdadm --stop --quiet /dev/md0
  gone one
  gone two
else
  echo "  skipped: no mdadm or no raid1 here"
fi

[ -z "$(ls /dev | grep ublkb || true)" ]
echo "test_ublk: all passed"
