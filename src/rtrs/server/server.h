#pragma once
// The server end of RTRS: listens, admits the connections of clients' paths, owns the chunk memory,
// and hands requests to a RequestHandler. Connection c of a path lives on loop (session's home + c)
// modulo loops, so connection 0 and the handler's session calls are on the session's home loop; the
// state of all sessions and paths lives on fabrics[0]'s loop.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "base/random.h"
#include "fabric/fabric.h"
#include "rtrs/counters.h"
#include "rtrs/options.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::server {

// The sessions there were since the boot of this host, also with earlier server processes. On
// fabrics[0]'s loop; must not block.
class SessionHistory {
 public:
  virtual ~SessionHistory() = default;
  // False: a client that reconnects with this session has it since before the boot.
  virtual bool known(const Uuid& session) const = 0;
  virtual void add(const Uuid& session) = 0;
};

struct ServerOptions {
  std::uint32_t queue_depth = 512;        // 2..65535, with max_chunk_size within 28 bits together
  std::uint32_t max_chunk_size = 131072;  // bytes, power of two, at least 8192
  std::uint32_t header_size = 4096;       // of each chunk, for messages
  HeartbeatOptions heartbeat{};           // to kernel clients
  HeartbeatOptions fast_heartbeat = kFastHeartbeat;  // to our own
  // What our own clients know this process and its kernel by. Zeros: nothing is announced, and the
  // server is what a kernel server is.
  wire::Extension identity{};
  SessionHistory* history = nullptr;  // borrowed; without one there are no survivors
  Duration handshake_timeout = std::chrono::seconds(5);  // from first connection to info request
  std::uint32_t max_sessions = 256;
  std::uint32_t max_paths_per_session = 16;
  std::uint32_t max_connections_per_path = 256;
  std::uint64_t max_chunk_memory = std::uint64_t{16}
                                   << 30;  // reserved address space over all paths, bytes
};

class Session;

// One request of a client, from on_request to respond(). Pooled: one per chunk of a path. On one
// loop.
class Request {
 public:
  static constexpr std::size_t kScratchSize = 512;

  virtual Session& session() = 0;
  virtual std::size_t loop_index() const = 0;  // which of the server's loops this runs on
  Direction direction() const { return direction_; }
  // The user message, copied out of memory the peer can write.
  std::span<const std::byte> message() const { return message_; }
  // write: the client's data. read: room for the answer (data_length of the request, as the client
  // says).
  std::span<std::byte> data() const { return data_; }
  // read: bytes the client expects back; they are sent from data().data() whatever was put there,
  // so the handler fills all of them on success. At most the chunk size; 0 when the request wants
  // no data.
  std::uint32_t reply_length() const { return reply_length_; }
  // Answers, once; errno 0 is success. Read data is sent only on success. The request is gone
  // afterwards.
  virtual void respond(int error) = 0;
  // The handler's own, same lifetime as the request: its block request lives here.
  std::span<std::byte, kScratchSize> scratch() { return scratch_; }
  // When it arrived, by the round's clock.
  TimePoint arrived() const { return arrived_; }
  // For the statistics, before respond(): it is I/O, and this long of its life, which ended at
  // `until`, was the backend's.
  void set_backend_time(Duration time, TimePoint until) {
    backend_time_ = time;
    backend_until_ = until;
  }
  // Its path has begun to close: what of it was not begun must not begin any more (safety rule R5),
  // but respond() is owed all the same.
  virtual bool abandoned() const = 0;

 protected:
  ~Request() = default;
  Direction direction_ = Direction::read;
  std::span<const std::byte> message_;
  std::span<std::byte> data_;
  std::uint32_t reply_length_ = 0;
  TimePoint arrived_{};
  Duration backend_time_{-1};  // negative: not I/O
  TimePoint backend_until_{};
  alignas(64) std::byte scratch_storage_[kScratchSize];
  std::span<std::byte, kScratchSize> scratch_{scratch_storage_};
};

// What a client did to deserve a session, for handler and admin. Methods: home loop, except
// name/id.
class Session {
 public:
  virtual ~Session() = default;
  virtual const std::string& name() const = 0;  // any thread, constant
  virtual std::uint64_t id() const = 0;         // any thread, constant, never reused by this server
  virtual std::size_t home() const = 0;         // index of the home loop
  virtual std::uint32_t queue_depth() const = 0;
  // Any thread: its client has it since before this host was rebooted, see SessionHistory.
  virtual bool survivor() const = 0;
  virtual bool own_client() const = 0;  // any thread: the client is one of ours
  // Where the client is one of ours, tells it that something it has open here has changed, so that
  // it looks. fabrics[0]'s loop, until release().
  virtual void notify() = 0;
  // The handler's answer to on_session_closed: nothing of it refers to this session any more.
  virtual void release() = 0;
};

class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  // The session's first path is up. Home loop of the session, before any request of it.
  virtual void on_session_opened(Session& session) = 0;
  // Its last path is gone and every request has been responded to. Home loop. Answer with
  // release(), now or later; until then a new session of the same name is refused.
  virtual void on_session_closed(Session& session) = 0;
  // A request, on the loop of its connection. Respond exactly once, now or later, on this loop.
  virtual void on_request(Request& request) = 0;
};

struct PathInfo {
  std::string name;  // "<client>@<server>"
  fabric::Address client, server_address;
  std::string state;          // "connecting", "connected", "closing"
  std::string fabric;         // "iwarp", "verbs"
  fabric::DeviceName device;  // of RDMA
  std::string digest;         // see fabric::Connection
  std::uint32_t connections = 0;
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, inflight = 0;
  std::uint64_t errors = 0;  // requests answered with an error
  // I/O from arrival to answer: what of it was the backend's, and the rest.
  LatencyCounts server{}, backend{};
};
struct SessionInfo {
  std::string name;
  std::uint64_t id = 0;
  std::vector<PathInfo> paths;
};

// Create, stop and destroy on fabrics[0]'s loop; destroy after stop() reported.
class Server {
 public:
  // EINVAL (logged with the reason) when the options do not fit the protocol.
  static Result<std::unique_ptr<Server>> create(std::span<fabric::Fabric* const> fabrics,
                                                Random& random, RequestHandler& handler,
                                                const ServerOptions& options);
  virtual ~Server() = default;
  virtual std::error_code listen(
      const fabric::Address& address) = 0;  // may be called several times
  virtual std::vector<fabric::Address> listen_addresses() const = 0;
  // Stops listening, closes every path, then calls `stopped` from the loop.
  virtual void stop(std::function<void()> stopped) = 0;
  // A snapshot, gathered from all loops; `result` runs on fabrics[0]'s loop.
  virtual void list_sessions(std::function<void(std::vector<SessionInfo>)> result) = 0;
  // Takes a path (its name as list_sessions() tells it), or all of a session, down in order, soon
  // after; clients connect them again. False when there is none.
  virtual bool disconnect(std::uint64_t session, const std::string& path) = 0;
  // Sets counters of a path back to zero, never those of what is in flight. By the names that
  // list_sessions() tells; false when there is no such path.
  virtual bool reset_counters(const std::string& session, const std::string& path,
                              CounterGroup group) = 0;
};

}  // namespace rnbd::rtrs::server
