#!/usr/bin/env bash
# The services under systemd: what is mapped and in fstab is mounted again after a reboot, with what was written to it; what is
# mounted outlives a restart of the client daemon; a shutdown with mounted volumes ends soon and loses nothing.
# lab: --systemd --cpus 1 --timeout 420 --memory 1024 --load ublk_drv
. "$LAB_LIB"
packaging=$(dirname "$LAB_LIB")/../../packaging

mounted() { findmnt -n /mnt/data >/dev/null; }
client_has() { rnbd list 2>/dev/null | grep -q "$1"; }
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

case $BOOT in
  1)
    install_services
    systemctl start rnbd-server.socket rnbd-client.socket
    [ "$(stat -c %a:%G /run/rnbd/client.sock)" = 660:rnbd ] || fail "the admin socket is $(stat -c %a:%G /run/rnbd/client.sock)"
    rnbd list >/dev/null || fail "the socket does not start the client"
    systemctl start rnbd-server.service
    truncate -s 32M /var/volumes/data /var/volumes/hand
    rnbd map sessname=boot path=ip:127.0.0.1 device_path=/data
    rnbd map sessname=boot device_path=/hand
    [ "$(rnbd list -o json | python3 -c 'import json, sys; print(json.load(sys.stdin)["devices"][0]["frontend"])')" = ublk ] ||
      fail "it is no ublk device: $(rnbd list)"
    udevadm settle
    [ -L /dev/disk/by-id/rnbd-boot-data ] || fail "udev gave it no names: $(udevadm info /dev/rnbd0)"
    mkfs.ext4 -q /dev/rnbd0
    mkfs.ext4 -q /dev/rnbd1
    echo '/dev/rnbd0 /mnt/data ext4 _netdev,nofail 0 0' >/etc/fstab
    systemctl daemon-reload
    systemctl start mnt-data.mount
    head -c 1M /dev/urandom >/mnt/data/one
    sha256sum /mnt/data/one >/mnt/data/sums
    cd /etc
    guest_keep passwd group fstab rnbd default/rnbd udev/rules.d systemd/system/rnbd* systemd/system/*.wants
    guest_reboot ;;
  2)
    wait_until 60 mounted
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
    umount /mnt/data /mnt/hand
    rnbd unmap rnbd0
    rnbd unmap rnbd1
    grep -q '"maps": \[\]' /var/lib/rnbd/client-maps.json || fail "it is still remembered" ;;
esac
