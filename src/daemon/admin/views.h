#pragma once
// What the daemons tell about themselves: plain values, taken on the loops they belong to and
// carried over the admin socket. The documented JSON (docs/cli.md) has exactly these fields; within
// a version none is ever removed. Sizes are bytes, times microseconds.

#include <cstdint>
#include <string>
#include <vector>

namespace rnbd::daemon {

// How long requests spent in one stage: "queue" (waiting in us before they were sent), "wire" (sent
// until answered, the server's work included), "server" (arrived until answered, without the
// backend), "backend". Client: queue and wire; server: server and backend.
struct StageView {
  std::string stage{};
  std::uint64_t count = 0;
  std::uint64_t sum_us = 0;
  std::uint64_t p50_us = 0, p90_us = 0, p99_us = 0, p999_us = 0, max_us = 0;
  // How many took less than 1, 2, 4, … 2^k microseconds, and not less than the one before; as far
  // as there are any. The 27th, less than 2^26, has all that took longer, too.
  std::vector<std::uint64_t> buckets{};
};

struct PathView {
  std::uint32_t number = 0;   // of its session's list, from 1: names it to commands
  std::string name{};         // "<src>@<dst>" with real addresses once connected
  std::string destination{};  // as configured
  std::uint16_t port = 0;
  std::string state{};            // connecting, connected, reconnecting, ...; "removed"
  std::string fabric{};           // "iwarp" (TCP, Unix sockets), "verbs" (RDMA)
  std::string device{};           // "mlx5_0/1": RDMA device and port; empty without
  std::string digest{};           // "crc32c", "icrc" (RDMA), "none"; empty while not connected
  std::string error{};            // why it is not connected; empty when it is
  std::uint32_t connections = 0;  // server only
  std::uint64_t latency_us = 0;   // of the last heartbeat; client only
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, inflight = 0;
  std::uint64_t reconnects = 0, reconnect_failures = 0;  // client only
  // False: writes of its last connection wait until the server is known to be done with it; client
  // only.
  bool fenced = true;
  bool slow = false;  // its heartbeats take far longer than another path's: avoided; client only
  std::string source_address{};       // the client's, "ip:10.0.0.2"; empty before it connected
  std::string destination_address{};  // the server's
  std::uint64_t latency_ns = 0;       // latency_us, exactly
  std::uint64_t failed_over = 0;      // requests of other paths that were sent again here; client
  std::uint64_t errors = 0;           // requests that ended in an error
  // Requests by the CPU they were submitted on, and by the one they were answered on, where the two
  // differ; client only.
  std::vector<std::uint64_t> migrated_from{}, migrated_to{};
  std::vector<StageView> stages{};
};

struct SessionView {
  std::string name{};
  std::string state{};  // connected, disconnected
  std::uint32_t queue_depth = 0;
  std::uint64_t max_io_size = 0;
  std::string policy{};                      // round-robin, min-inflight, min-latency; client only
  std::string failover{};                    // fenced, immediate (unsafe); client only
  std::int32_t max_reconnect_attempts = -1;  // of each path, -1: for ever; client only
  std::string client_host{}, server_host{};  // names of the hosts as far as they are known
  // Of its paths, taken together: see add_up.
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, errors = 0, inflight = 0;
  std::uint64_t reconnects = 0;  // client only
  std::vector<StageView> stages{};
  std::vector<PathView> paths{};
};

inline void add_up(SessionView& session) {
  for (const PathView& path : session.paths) {
    session.reads += path.reads;
    session.read_bytes += path.read_bytes;
    session.writes += path.writes;
    session.write_bytes += path.write_bytes;
    session.errors += path.errors;
    session.inflight += path.inflight;
    session.reconnects += path.reconnects;
  }
}

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
  std::uint32_t physical_block_size = 0;
  std::int32_t nr_poll_queues = 0;
  bool once = false;  // not mapped again after a reboot
  std::vector<StageView> stages{};
};

// A volume a client has open (server).
struct OpenView {
  std::string volume{};
  std::string session{};
  std::uint32_t device_id = 0;
  std::string access_mode{};
  std::uint64_t size = 0;
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, errors = 0;
  std::string device{};  // the block device or file behind it, "/dev/ram0"
  bool read_only = false;
  bool flush_failed = false;  // its flushes are refused until an administrator recovers it
  std::uint64_t inflight = 0;
  std::vector<StageView> stages{};
};

// A node of the attribute tree (daemon/tree).
struct NodeView {
  std::string path{};  // below the root, "class/rtrs-client/a@b/mpath_policy"
  std::string kind{};  // directory, attribute, link
  std::uint32_t mode = 0;
  std::string target{};  // of a link
  std::string text{};    // of an attribute: what it reads
};

// Something that happened. Told to whoever asked for events, and in the log.
struct EventView {
  std::string time{};                                 // RFC 3339, UTC
  std::string level{};                                // debug, info, warning, error
  std::string event{};                                // "path_lost", ...: docs/cli.md lists them
  std::string device{}, session{}, volume{}, path{};  // what it happened to, as far as it applies
  std::string text{};                                 // the log line
};

struct DaemonView {
  std::string program{};  // "rnbd-client", "rnbd-server"
  std::string version{};
  std::int64_t pid = 0;
  std::vector<std::string> listen{};   // "ip:0.0.0.0 port 1234"; server only
  std::string search_path{};           // dev_search_path; server only
  std::vector<std::string> exports{};  // names of configured exports; server only
  // What the kernel's modules call their parameters; server only.
  std::uint16_t port_nr = 0;
  std::uint64_t max_chunk_size = 0, sess_queue_depth = 0;
  bool always_invalidate = false;
};

}  // namespace rnbd::daemon
