#pragma once
// Everything one can set, with its default. One file, /etc/rnbd/rnbd.toml, serves both daemons;
// each looks at its own section. Plain values; read once at start.

#include <cstdint>
#include <string>
#include <vector>

#include "base/loop.h"
#include "daemon/admin/problem.h"

namespace rnbd::daemon {

// What both daemons have, each for itself.
struct LoopConfig {
  std::uint64_t reactors = 0;  // 0: one per CPU
  std::vector<std::uint64_t>
      cpus{};  // reactor k is pinned to cpus[k modulo size]; empty: not pinned
  Duration spin = std::chrono::microseconds(50);
};

struct NetworkConfig {
  std::string crc = "auto";            // auto, on, off, strict
  std::string rdma = "auto";           // auto, on, off
  std::string rdma_device{};           // "mlx5_0", "mlx5_0/1"; empty: whichever routes there
  std::string memory_windows = "off";  // off, on, test
  Duration heartbeat_interval = std::chrono::seconds(5);
  std::uint64_t heartbeat_missed_max = 5;
  Duration fast_heartbeat_interval = std::chrono::milliseconds(500);
  std::uint64_t fast_heartbeat_missed_max = 3;
};

struct TreeConfig {
  std::string mountpoint = "auto";   // a directory, auto, or empty: off
  std::string peer_socket = "auto";  // of the other daemon of this machine; empty: none
};

struct ExportConfig {
  std::string name{};
  std::string backend = "file";  // file, memory, null
  std::string file{};
  std::uint64_t size = 0;
  bool read_only = false;
  std::uint64_t block_size = 0;
  bool operator==(const ExportConfig&) const = default;
};

struct ServerConfig {
  std::vector<std::string> listen{"ip:::", "ip:0.0.0.0"};
  std::uint64_t port_nr = 1234;
  std::string unix_listen{};
  std::string dev_search_path{};
  bool follow_symlinks = false;
  std::string direct = "auto";  // auto, on, off
  bool write_through = false;
  std::uint64_t block_size = 0;
  std::uint64_t max_chunk_size = 131072;
  std::uint64_t sess_queue_depth = 512;
  std::uint64_t max_chunk_memory = std::uint64_t{16} << 30;
  std::uint64_t max_sessions = 256;
  std::uint64_t max_paths_per_session = 16;
  std::uint64_t max_devices_per_session = 256;
  Duration handshake_timeout = std::chrono::seconds(5);
  bool offer_write_zeroes = true;
  std::string after_reboot = "refuse";  // refuse, allow
  std::string state_dir{};
  std::string admin_socket{};
  std::string admin_group{};
  TreeConfig tree;
  NetworkConfig network;
  LoopConfig loops;
};

struct ClientConfig {
  std::string frontend = "auto";  // auto, nbd, fuse, loop, ublk
  std::uint64_t ublk_queue_depth = 128;
  std::string nbd_socket{};
  bool nbd_tcp = false;
  std::uint64_t nbd_port = 10809;
  std::string fuse_mountpoint{};
  bool fuse_allow_other = false;
  std::string devices_dir = "/dev";
  Duration connect_timeout = std::chrono::seconds(5);
  Duration map_timeout = std::chrono::seconds(30);
  Duration hold_timeout{0};
  std::string on_stop = "unmap";  // unmap, leave, auto
  Duration shutdown_timeout = std::chrono::seconds(30);
  Duration reconnect_delay = std::chrono::seconds(1);
  Duration reconnect_delay_max = std::chrono::seconds(30);
  std::int64_t max_reconnect_attempts = -1;
  std::string path_policy = "min-inflight";  // round-robin, min-inflight, min-latency
  std::string failover = "fenced";           // fenced, immediate
  Duration server_patience = std::chrono::seconds(35);
  Duration backend_patience = std::chrono::seconds(60);
  Duration packet_lifetime = std::chrono::seconds(1);
  std::string lock_memory = "auto";  // auto, on, off
  std::string state_dir{};
  std::string admin_socket{};
  std::string admin_group{};
  TreeConfig tree;
  NetworkConfig network;
  LoopConfig loops;
};

struct Config {
  std::string log_level = "info";  // debug, info, warning, error
  ServerConfig server;
  ClientConfig client;
  std::vector<ExportConfig> exports;
};

// Reads `file` (absent is an empty one unless `must_exist`), then the drop-ins <dir of
// file>/rnbd.d/*.toml in order of their names: what is said later wins, [[export]] adds up.
// Anything unknown, mistyped or out of range is a Problem naming file, line and key.
Outcome<Config> load_config(const std::string& file, bool must_exist);
Outcome<Config> parse_config(std::string_view text, const std::string& file_name);

// The keys of one section whose values differ, without its name: for one daemon that reads its
// configuration again.
std::vector<std::string> changed_keys(const Config& before, const Config& after,
                                      std::string_view section);

// A commented TOML file with every key and its value, which parses back to the same. `section` is
// "server" or "client" for one daemon's part, or "" for all.
std::string print_config(const Config& config, std::string_view section);

}  // namespace rnbd::daemon
