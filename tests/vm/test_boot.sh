#!/usr/bin/env bash
# The services under systemd: what is mapped and in fstab is mounted again after a reboot, with what was written to it; what is
# mounted outlives a restart of the client daemon; a shutdown with mounted volumes ends soon and loses nothing, and ends when
# the server is gone; units of rnbdtab map and unmap; udev's names.
# lab: --systemd --cpus 1 --timeout 900 --memory 1024 --load ublk_drv
. "$LAB_LIB"
packaging=$(dirname "$LAB_LIB")/../../packaging

mounted() { findmnt -n /mnt/data >/dev/null; }
install_services() {
  local unit
  cp "$packaging/systemd/rnbd.sysusers.conf" /etc/sysusers.conf
  systemd-sysusers /etc/sysusers.conf
  for unit in "$packaging"/systemd/*.{service,socket}; do
    sed "s,@BINDIR@,$RNBD_BIN,; s,@SBINDIR@,$RNBD_BIN," "$unit" >"/etc/systemd/system/${unit##*/}"
  done
  mkdir -p /etc/udev/rules.d /etc/rnbd /var/volumes
  cp "$packaging/udev/61-rnbd.rules" /etc/udev/rules.d/
  cp "$packaging/etc/rnbd.toml" /etc/rnbd/
  mkdir /etc/rnbd/rnbd.d
  printf '[server]\ndev_search_path = "/var/volumes"\nlisten = ["ip:127.0.0.1"]\n' >/etc/rnbd/rnbd.d/lab.toml
  # Leaks are looked for by other tests: the sanitizer traces itself for it, which the service may not.
  mkdir -p /etc/default
  echo "ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0" >/etc/default/rnbd
  udevadm control --reload
  systemctl daemon-reload
  systemctl -q enable rnbd-server.service rnbd-client.service
}

expect_volumes() { expect_equal "what is mapped" "$(rnbd list devices --fields=volume --no-headers | tr -d ' ' | sort | xargs)" "$1"; }
leads_to() { [ "$(readlink -f "$1")" = "$(readlink -f "$2")" ]; }

units_of_rnbdtab() {
  local mounted_as
  step "rnbd-map maps the table but for what is noauto, and unmaps it"
  truncate -s 32M /var/volumes/{db,spare,asked}
  for volume in db spare asked; do
    echo "$volume sessname=boot path=ip:127.0.0.1 device_path=$volume $([ $volume != asked ] || echo noauto)"
  done >/etc/rnbd/rnbdtab
  systemctl start rnbd-map
  expect_volumes "db spare"
  systemctl start rnbd@asked
  systemctl stop rnbd-map
  expect_volumes asked
  systemctl stop rnbd@asked
  expect_volumes ""

  step "stopping rnbd@ unmaps; not what is in use, and who uses it is said"
  systemctl start rnbd@db
  expect_volumes db
  mkfs.ext4 -q /dev/rnbd/boot/db
  mkdir /mnt/db
  mount /dev/rnbd/boot/db /mnt/db
  systemctl stop rnbd@db || true
  systemctl -q is-failed rnbd@db || fail "stopping it in use is $(systemctl is-active rnbd@db)"
  journalctl -q -u rnbd@db | grep -q 'in use: .*/mnt/db' || fail "nobody says who uses it: $(journalctl -q -u rnbd@db)"
  expect_volumes db
  umount /mnt/db
  systemctl start rnbd@db
  systemctl stop rnbd@db
  expect_volumes ""
  not grep -q boot /var/lib/rnbd/client-maps.json || fail "what was stopped is remembered"

  step "fstab brings it, and what stops it is unmounted first; the daemon may restart under it"
  echo '/dev/rnbd/boot/db /mnt/db ext4 _netdev,nofail,x-systemd.requires=rnbd@db.service 0 2' >>/etc/fstab
  systemctl daemon-reload
  systemctl start mnt-db.mount
  mounted_as=$(findmnt -no ID /mnt/db)
  systemctl restart rnbd-client
  expect_equal "the mount" "$(findmnt -no ID /mnt/db)" "$mounted_as"
  systemctl stop rnbd@db
  not findmnt /mnt/db || fail "it is still mounted"
  expect_volumes ""
}

# two_partitions NODE: of 8 MiB each, in a partition table of DOS's.
two_partitions() {
  python3 - "$1" <<'EOF'
import struct, sys
entries = b"".join(struct.pack("<B3sB3sII", 0, b"\0" * 3, 0x83, b"\0" * 3, start, 16384) for start in (2048, 18432))
with open(sys.argv[1], "r+b") as disk:
    disk.write(bytes(440) + struct.pack("<IH", 0x726e6264, 0) + entries.ljust(64, b"\0") + b"\x55\xaa")
EOF
  wait_until 30 blockdev --rereadpt "$1"  # not while udev, which reads it as well, has one open
}

names_of_udev() {
  local uuid id=/dev/disk/by-id/rnbd-boot-odd node
  step "names: of one volume each, of partitions, of what is on them"
  mkdir -p /var/volumes/odd
  truncate -s 32M /var/volumes/odd/vol /var/volumes/odd_vol
  rnbd map sessname=boot device_path=odd/vol
  rnbd map sessname=boot device_path=odd_vol
  udevadm settle
  leads_to "$id\\x2fvol" '/dev/rnbd/boot/odd!vol' || fail "by-id: $(ls -l /dev/disk/by-id /dev/rnbd/boot)"
  leads_to "${id}_vol" /dev/rnbd/boot/odd_vol || fail "by-id: $(ls -l /dev/disk/by-id /dev/rnbd/boot)"
  not leads_to "${id}_vol" "$id\\x2fvol" || fail "two volumes share a name"
  node=$(readlink -f "${id}_vol")
  two_partitions "$node"
  wait_until 30 test -b "${node}p2"
  udevadm settle
  leads_to "${id}_vol-part1" "${node}p1" || fail "-part1: $(ls -l /dev/disk/by-id)"
  leads_to "/dev/rnbd/boot/odd_vol-part2" "${node}p2" || fail "-part2: $(ls -l /dev/rnbd/boot)"
  mkfs.ext4 -q -L "lab part" "${node}p2"
  udevadm settle  # the rules' watch makes udev look at it again
  uuid=$(blkid -s UUID -o value "${node}p2")
  wait_until 30 leads_to "/dev/disk/by-uuid/$uuid" "${node}p2"
  leads_to '/dev/disk/by-label/lab\x20part' "${node}p2" || fail "by-label: $(ls -l /dev/disk/by-label)"
  leads_to "/dev/disk/by-partuuid/$(blkid -s PARTUUID -o value "${node}p1")" "${node}p1" || fail "by-partuuid"
  echo "UUID=$uuid /mnt/part ext4 _netdev,nofail 0 2" >>/etc/fstab
  rnbd unmap odd/vol
}

case $BOOT in
  1)
    install_services
    systemctl start rnbd-server.socket rnbd-client.socket
    [ "$(stat -c %a:%G /run/rnbd/client.sock)" = 660:rnbd ] || fail "the admin socket is $(stat -c %a:%G /run/rnbd/client.sock)"
    rnbd list >/dev/null || fail "the socket does not start the client"
    systemctl start rnbd-server.service
    units_of_rnbdtab
    step "what is mapped by hand"
    truncate -s 32M /var/volumes/data /var/volumes/hand
    rnbd map sessname=boot path=ip:127.0.0.1 device_path=/data
    rnbd map sessname=boot device_path=/hand
    [ "$(rnbd list -o json | python3 -c 'import json, sys; print(json.load(sys.stdin)["devices"][0]["frontend"])')" = ublk ] ||
      fail "it is no ublk device: $(rnbd list)"
    udevadm settle
    [ -L /dev/disk/by-id/rnbd-boot-data ] || fail "udev gave it no names: $(udevadm info /dev/rnbd0)"
    mkfs.ext4 -q /dev/rnbd0
    mkfs.ext4 -q /dev/rnbd1
    echo '/dev/rnbd0 /mnt/data ext4 _netdev,nofail 0 0' >>/etc/fstab
    names_of_udev
    systemctl daemon-reload
    systemctl start mnt-data.mount
    head -c 1M /dev/urandom >/mnt/data/one
    sha256sum /mnt/data/one >/mnt/data/sums
    cd /etc
    guest_keep passwd group fstab rnbd default/rnbd udev/rules.d systemd/system/rnbd* systemd/system/*.wants
    guest_reboot ;;
  2)
    wait_until 60 mounted
    wait_until 60 findmnt /mnt/part
    wait_until 60 findmnt /mnt/db  # nothing but fstab asks for it
    (cd / && sha256sum -c --quiet /mnt/data/sums) || fail "what was written is not what is read"
    wait_until 60 test -b /dev/rnbd1
    mkdir /mnt/hand
    mount /dev/rnbd1 /mnt/hand
    head -c 1M /dev/urandom >/mnt/hand/one
    systemctl restart rnbd-client
    sync -f /mnt/hand  # what was dirty goes through the next daemon
    head -c 1M /dev/urandom >/mnt/data/two
    sha256sum /mnt/data/two /mnt/hand/one >>/mnt/data/sums
    (cd /mnt/data && exec sleep 1000) &  # somebody is in there
    guest_reboot ;;
  3)
    echo "   shutdown with a mounted volume: $(shutdown_seconds) s"
    [ "$(shutdown_seconds)" -lt 100 ] || fail "the shutdown hung"  # what hangs is given up after 90 s; emulated, the rest takes 10
    wait_until 60 mounted
    wait_until 60 test -b /dev/rnbd1
    mkdir /mnt/hand
    mount /dev/rnbd1 /mnt/hand
    (cd / && sha256sum -c --quiet /mnt/data/sums) || fail "what was written just before the shutdown is lost"
    not kernel_said 'EXT4-fs .*(recovery|error)' || fail "it was not unmounted cleanly"
    umount /mnt/hand
    systemctl stop mnt-part.mount rnbd@db
    rnbd unmap odd_vol
    rnbd unmap rnbd1
    step "a shutdown while the server is gone"
    head -c 4M /dev/urandom >/mnt/data/three  # dirty
    systemctl kill --signal=STOP rnbd-server
    guest_reboot ;;
  4)
    echo "   shutdown without a server: $(shutdown_seconds) s"
    [ "$(shutdown_seconds)" -lt 100 ] || fail "the shutdown hung"  # 30 s of shutdown_timeout, the rest is emulated
    wait_until 60 mounted
    (cd / && grep ' /mnt/data/' /mnt/data/sums | sha256sum -c --quiet) || fail "what had been written is lost"
    systemctl stop mnt-data.mount rnbd@db
    rnbd unmap rnbd0
    grep -q '"maps": \[\]' /var/lib/rnbd/client-maps.json || fail "it is still remembered" ;;
esac
