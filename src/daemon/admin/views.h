#pragma once
// What the daemons tell about themselves: plain values, taken on the loops they belong to and
// carried over the admin socket. The documented JSON (docs/cli.md) has exactly these fields; within
// a version none is ever removed. Sizes are bytes, times microseconds.

#include <cstdint>
#include <string>
#include <vector>

namespace rnbd::daemon {

struct PathView {
  std::uint32_t number = 0;   // of its session's list, from 1: names it to commands; client only
  std::string name{};         // "<src>@<dst>" with real addresses once connected
  std::string destination{};  // as configured
  std::uint16_t port = 0;
  std::string state{};            // connecting, connected, reconnecting, ...; "removed"
  std::string fabric{};           // "iwarp" (TCP, Unix sockets), "verbs" (RDMA)
  std::string device{};           // "mlx5_0/1": RDMA device and port; empty without
  std::string error{};            // why it is not connected; empty when it is
  std::uint32_t connections = 0;  // server only
  std::uint64_t latency_us = 0;   // of the last heartbeat; client only
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, inflight = 0;
  std::uint64_t reconnects = 0, reconnect_failures = 0;  // client only
  // False: writes of its last connection wait until the server is known to be done with it; client
  // only.
  bool fenced = true;
  bool slow = false;  // its heartbeats take far longer than another path's: avoided; client only
};

struct SessionView {
  std::string name{};
  std::string state{};  // connected, disconnected
  std::uint32_t queue_depth = 0;
  std::uint64_t max_io_size = 0;
  std::string policy{};                      // round-robin, min-inflight, min-latency; client only
  std::string failover{};                    // fenced, immediate (unsafe); client only
  std::int32_t max_reconnect_attempts = -1;  // of each path, -1: for ever; client only
  std::vector<PathView> paths{};
};

// A mapped volume (client).
struct DeviceView {
  std::string name{};      // "rnbd0"
  std::string node{};      // "/dev/rnbd0" where there is a block device, else empty
  std::string frontend{};  // the best of what it appears as: ublk, loop, fuse, nbd
  std::string ublk{};      // "/dev/ublkb3" behind the node
  std::string loop{};      // "/dev/loop3" behind the node
  std::string file{};      // the volume as a file in the FUSE mount
  std::string nbd{};       // "nbd+unix:///?socket=…"
  std::string volume{};    // device_path, as given
  std::string session{};
  std::string access_mode{};  // ro, rw, migration
  std::string state{};        // init, open, closed, failed, unmapped
  std::string error{};
  std::uint64_t size = 0;
  std::uint32_t logical_block_size = 0;
  std::uint32_t users = 0;  // NBD connections and holders of the block device
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, others = 0, errors = 0,
                inflight = 0, held = 0;
  std::uint64_t hold_us = 0;     // how long requests wait for an absent server; 0: for ever
  std::uint64_t waiting_us = 0;  // how long they have by now; 0 when the server is there
};

// A volume a client has open (server).
struct OpenView {
  std::string volume{};
  std::string session{};
  std::uint32_t device_id = 0;
  std::string access_mode{};
  std::uint64_t size = 0;
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, errors = 0;
};

struct DaemonView {
  std::string program{};  // "rnbd-client", "rnbd-server"
  std::string version{};
  std::int64_t pid = 0;
  std::vector<std::string> listen{};   // "ip:0.0.0.0 port 1234"; server only
  std::string search_path{};           // dev_search_path; server only
  std::vector<std::string> exports{};  // names of configured exports; server only
};

}  // namespace rnbd::daemon
