#include "daemon/config/schema.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMany = 1'000'000;
constexpr Duration kLongTime = 24h;

void add_network_keys(NetworkConfig& network, std::vector<Key>& keys) {
  keys.push_back({"crc", "CRC32C on TCP: auto leaves it out on loopback and Unix sockets",
                  Choice{&network.crc, {"auto", "on", "off", "strict"}}});
  keys.push_back({"rdma",
                  "auto: use RDMA where a device routes to the peer and the memory it needs may be "
                  "pinned; on: the same, and do not start where it cannot be used; off: never",
                  Choice{&network.rdma, {"auto", "on", "off"}}});
  keys.push_back({"rdma_device",
                  "use this RDMA device only, or this port of it: mlx5_0, mlx5_0/1; empty: the one "
                  "that routes to the peer",
                  Text{&network.rdma_device}});
  keys.push_back(
      {"memory_windows",
       "on: an RDMA peer gets a key per request, dead when that is over, where the device has "
       "memory windows; test: on rdma_rxe as well",
       Choice{&network.memory_windows, {"off", "on", "test"}}});
  keys.push_back({"heartbeat_interval", "a silent path to a kernel peer is asked this often",
                  Time{&network.heartbeat_interval, 10ms, kLongTime}});
  keys.push_back({"heartbeat_missed_max", "silent intervals tolerated before the path is given up",
                  Number{&network.heartbeat_missed_max, 1, kMany}});
  keys.push_back({"fast_heartbeat_interval", "the same between two of our own ends",
                  Time{&network.fast_heartbeat_interval, 10ms, kLongTime}});
  keys.push_back({"fast_heartbeat_missed_max",
                  "a path of our own that is silent for so many of these intervals is given up",
                  Number{&network.fast_heartbeat_missed_max, 1, kMany}});
}

void add_loop_keys(LoopConfig& loops, std::vector<Key>& keys) {
  keys.push_back(
      {"reactors", "threads that do the work; 0: one per CPU", Number{&loops.reactors, 0, 256}});
  keys.push_back(
      {"cpus", "CPUs to pin them to, in turn; empty: not pinned", NumberList{&loops.cpus, 4095}});
  keys.push_back(
      {"spin", "longest look for work before a thread sleeps", Time{&loops.spin, 0ns, 10ms}});
}

void add_tree_keys(TreeConfig& tree, std::vector<Key>& keys) {
  keys.push_back({"sysfs_mountpoint",
                  "directory in which the attributes of the kernel's RNBD and RTRS modules appear; "
                  "auto: /run/rnbd/sysfs for root's daemon with the usual admin socket, else "
                  "nowhere; empty: nowhere. Both daemons of a machine share it: one shows both",
                  Text{&tree.mountpoint}});
  keys.push_back({"sysfs_peer_socket",
                  "admin socket of the machine's other daemon, whose attributes are shown there "
                  "as well; auto: the usual one, if our own is; empty: none",
                  Text{&tree.peer_socket}});
}

Section server_section(ServerConfig& server) {
  Section section{"server", "rnbd-server", {}};
  auto& keys = section.keys;
  keys = {
      {"listen", "addresses to listen on: ip:<IPv4>, ip:<IPv6>; ip::: is every IPv6 address",
       TextList{&server.listen}},
      {"port_nr", "port of these addresses; 0: any free one", Number{&server.port_nr, 0, 65535}},
      {"unix_listen", "Unix socket to listen on as well; empty: none", Text{&server.unix_listen}},
      {"dev_search_path",
       "directory in which volumes are looked for, never outside it; %SESSNAME% stands for the "
       "session's name; empty: only [[export]]",
       Text{&server.dev_search_path}},
      {"follow_symlinks",
       "follow symbolic links that stay beneath dev_search_path (needed for LVM names)",
       Flag{&server.follow_symlinks}},
      {"direct", "direct I/O on volumes: auto uses it where the file system can",
       Choice{&server.direct, {"auto", "on", "off"}}},
      {"write_through", "every write is on stable storage before it is answered",
       Flag{&server.write_through}},
      {"block_size", "logical block size of volumes that are files; 0: 512",
       Size{&server.block_size, 0, 65536, true}},
      {"max_chunk_size", "largest request, with its header of 4K",
       Size{&server.max_chunk_size, 8192, 1U << 20, true}},
      {"sess_queue_depth", "requests in flight of one session",
       Number{&server.sess_queue_depth, 2, 65535}},
      {"max_chunk_memory", "bound of the memory of all sessions' requests",
       Size{&server.max_chunk_memory, 1U << 20, std::uint64_t{1} << 46, false}},
      {"max_sessions", "sessions at one time", Number{&server.max_sessions, 1, 65536}},
      {"max_paths_per_session", "paths of one session",
       Number{&server.max_paths_per_session, 1, 256}},
      {"max_devices_per_session", "volumes one session may have open",
       Number{&server.max_devices_per_session, 1, 65536}},
      {"handshake_timeout", "a client must finish connecting within",
       Time{&server.handshake_timeout, 100ms, 10min}},
      {"offer_write_zeroes", "false for clients with kernels 5.8 to 5.17, which would misread it",
       Flag{&server.offer_write_zeroes}},
      {"after_reboot",
       "clients of the kernel that were connected before this host was rebooted: refuse: they do "
       "not "
       "get back a volume that may have lost writes, until it is unmapped and mapped anew; allow: "
       "they go on",
       Choice{&server.after_reboot, {"refuse", "allow"}}},
      {"state_dir",
       "remembers the clients of this boot; must outlive a reboot; empty: /var/lib/rnbd, or the "
       "directory of the admin socket where that is another than usual",
       Text{&server.state_dir}},
      {"admin_socket",
       "socket for the rnbd command; empty: /run/rnbd/server.sock, or one in $XDG_RUNTIME_DIR/rnbd",
       Text{&server.admin_socket}},
      {"admin_group", "group that may use it besides root; empty: none", Text{&server.admin_group}},
  };
  add_tree_keys(server.tree, keys);
  add_network_keys(server.network, keys);
  add_loop_keys(server.loops, keys);
  return section;
}

void add_client_process_keys(ClientConfig& client, std::vector<Key>& keys) {
  keys.push_back(
      {"lock_memory",
       "keep the daemon in memory, so that it serves a full machine too: auto: as root where the "
       "limit allows it",
       Choice{&client.lock_memory, {"auto", "on", "off"}}});
  keys.push_back(
      {"state_dir",
       "remembers what is mapped, to map it again after a reboot; empty: /var/lib/rnbd, or the "
       "directory of the admin socket where that is another than usual",
       Text{&client.state_dir}});
  keys.push_back(
      {"admin_socket",
       "socket for the rnbd command; empty: /run/rnbd/client.sock, or one in $XDG_RUNTIME_DIR/rnbd",
       Text{&client.admin_socket}});
  keys.push_back({"admin_group", "group that may use it besides root; empty: none",
                  Text{&client.admin_group}});
}

Section client_section(ClientConfig& client) {
  Section section{"client", "rnbd-client", {}};
  auto& keys = section.keys;
  keys = {
      {"frontend",
       "how volumes appear besides the NBD socket: nbd: not at all; fuse: as files; loop: as files "
       "and block devices /dev/rnbdN on them; ublk: as block devices /dev/rnbdN of the ublk "
       "driver; "
       "auto: ublk, else loop, else fuse, else nbd, whichever the machine allows",
       Choice{&client.frontend, {"auto", "nbd", "fuse", "loop", "ublk"}}},
      {"ublk_queue_depth", "requests under way on each queue of a ublk device; one queue per loop",
       Number{&client.ublk_queue_depth, 1, 4096}},
      {"nbd_socket", "Unix socket of the NBD server; empty: nbd.sock beside the admin socket",
       Text{&client.nbd_socket}},
      {"nbd_tcp", "serve NBD on 127.0.0.1 too: open to every local user", Flag{&client.nbd_tcp}},
      {"nbd_port", "its port; 0: any free one", Number{&client.nbd_port, 0, 65535}},
      {"fuse_mountpoint",
       "directory with a file per volume; empty: volumes beside the admin socket",
       Text{&client.fuse_mountpoint}},
      {"fuse_allow_other", "let other users reach the files as their mode permits",
       Flag{&client.fuse_allow_other}},
      {"devices_dir", "where the links rnbdN and rnbd/<session>/<volume> are made",
       Text{&client.devices_dir}},
      {"connect_timeout", "a server must accept and answer within",
       Time{&client.connect_timeout, 100ms, 10min}},
      {"map_timeout", "a volume must be there within", Time{&client.map_timeout, 1s, kLongTime}},
      {"hold_timeout",
       "how long requests wait for a server, away or silent; then the device fails; 0: for ever",
       Time{&client.hold_timeout, 0ns, kLongTime}},
      {"on_stop",
       "what ending the daemon means: unmap: every volume is unmapped; leave: ublk devices stay "
       "and wait for the next daemon, as after a crash (for upgrades); auto: what nobody uses is "
       "unmapped, what is in use is left",
       Choice{&client.on_stop, {"unmap", "leave", "auto"}}},
      {"shutdown_timeout", "the longest wait for a server as the machine goes down; 0: as ever",
       Time{&client.shutdown_timeout, 0ns, kLongTime}},
      {"reconnect_delay", "first pause between attempts to reconnect; doubles",
       Time{&client.reconnect_delay, 10ms, kLongTime}},
      {"reconnect_delay_max", "up to this", Time{&client.reconnect_delay_max, 10ms, kLongTime}},
      {"max_reconnect_attempts", "then the path is given up; -1: never",
       SignedNumber{&client.max_reconnect_attempts, -1, 9999}},
      {"path_policy",
       "which path a request takes: min-inflight: the one with fewest under way; round-robin: one "
       "after the other; min-latency: the one whose heartbeats are fastest",
       Choice{&client.path_policy, {"min-inflight", "round-robin", "min-latency"}}},
      {"failover",
       "what becomes of writes whose path is lost: fenced: they wait until the server is known to "
       "be done with that path; immediate: they go over another path at "
       "once. UNSAFE: a copy that was delayed on the lost path may then undo a newer write, "
       "silently; for volumes whose content does not matter only",
       Choice{&client.failover, {"fenced", "immediate"}}},
      {"server_patience",
       "the longest a server takes to miss a client that fell silent: of the kernel's, its "
       "heartbeats",
       Time{&client.server_patience, 1s, kLongTime}},
      {"backend_patience",
       "the longest a server's disk may take for one request: where no server confirms a fence, it "
       "is waited for before writes of a lost path are sent again",
       Time{&client.backend_patience, 1s, kLongTime}},
      {"packet_lifetime",
       "the longest a packet may wander in the network: waited for before it is taken for gone",
       Time{&client.packet_lifetime, 10ms, 10min}},
  };
  add_client_process_keys(client, keys);
  add_tree_keys(client.tree, keys);
  add_network_keys(client.network, keys);
  add_loop_keys(client.loops, keys);
  return section;
}

}  // namespace

std::vector<Section> sections_of(Config& config) {
  std::vector<Section> sections;
  Section log{"log", "both daemons", {}};
  log.keys.push_back({"level", "least severity that is logged",
                      Choice{&config.log_level, {"debug", "info", "warning", "error"}}});
  sections.push_back(std::move(log));
  sections.push_back(server_section(config.server));
  sections.push_back(client_section(config.client));
  return sections;
}

Section section_of(ExportConfig& entry) {
  Section section{"export", "a volume of rnbd-server by name", {}};
  section.keys = {
      {"name", "what clients ask for", Text{&entry.name}},
      {"backend",
       "file: a regular file or block device; memory: lost at exit; null: forgets writes, reads "
       "arbitrary bytes (for measuring)",
       Choice{&entry.backend, {"file", "memory", "null"}}},
      {"file", "absolute path (backend file)", Text{&entry.file}},
      {"size", "bytes (backends memory and null)",
       Size{&entry.size, 0, std::uint64_t{1} << 62, false}},
      {"read_only", "nobody writes", Flag{&entry.read_only}},
      {"block_size", "logical block size; 0: 512, or the device's",
       Size{&entry.block_size, 0, 65536, true}},
  };
  return section;
}

}  // namespace rnbd::daemon
