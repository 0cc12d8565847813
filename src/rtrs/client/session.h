#pragma once
// The client end of one RTRS session: a server seen through one or more paths. The session and its
// paths live on the home loop; requests are submitted to a Lane, one per loop, each with a fixed
// slice of the permits and one connection of every path. Nothing on the data path is shared between
// lanes.
//
// Connection 0 of a path (the service connection) lives on the home loop and carries the info
// exchange, heartbeats and administrative messages; IO connection k+1 lives on the loop of lane k.

#include <sys/uio.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "base/intrusive_list.h"
#include "base/loop.h"
#include "base/random.h"
#include "fabric/fabric.h"
#include "rtrs/counters.h"
#include "rtrs/options.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::client {

// One request: intrusive, the submitter's, reused for ever. Fill the first part, submit, wait for
// done. When its path is lost a read is sent again over another at once, so it must not change
// anything on the server; a write is held until the path is fenced (safety rules R11, R12).
struct Request : ListNode {
  Direction direction = Direction::read;
  std::span<const std::byte> message;  // user message; at most max_hdr_size less the RTRS message
  std::span<const iovec> data;         // to be written, or where the answer goes
  std::uint32_t data_length = 0;       // bytes of `data`; at most max_io_size
  bool changes = false;  // a read that changes something all the same: treated as a write
  bool control = false;  // `message` is a wire::layout::ControlMessage; RTRS's own, never repeated
  // Called once, from the lane's loop. No error: the server answered 0 (and all read data is in
  // place). generic_category: the server's errno. Errc::path_lost: sent, fate unknown. ENOTCONN:
  // never sent, no path. Errc::too_long: never sent. By then neither the fabric nor the peer can
  // touch `message` or `data`.
  void (*done)(Request& request, std::error_code error) = nullptr;

  // When it was first sent, by the round's clock; the epoch when it never was. Valid in done.
  TimePoint posted{};

  // The lane's.
  std::uint32_t permit = 0;
  std::uint32_t state = 0;
  Request* heir = nullptr;        // takes its place when it is given up; an heir's is itself
  const void* lost_on = nullptr;  // the path that was lost with it, until it is sent again
};

// The slice of a session on one loop.
class Lane {
 public:
  virtual ~Lane() = default;
  virtual Loop& loop() = 0;
  // Requests this lane can have in flight; 0 until the session was connected once. Still 0 then:
  // more lanes than permits; another lane sends for this one.
  virtual std::uint32_t permits() const = 0;
  virtual bool connected() const = 0;
  // Takes the request until done; waits in order for a permit. Never calls done from inside.
  virtual void submit(Request& request) = 0;
  // Ends a request that was submitted and is not done, without its answer: done comes, not from
  // inside, with Errc::path_lost if it was sent, else with ENOTCONN. Its permit rests until the
  // answer. `settled` is called once, on this loop and maybe from inside, when the server can no
  // longer act on it. What another lane sends for this one is waited for all the same.
  virtual void give_up(Request& request, std::function<void()> settled) = 0;
};

enum class PathState : std::uint8_t {
  connecting,
  connected,
  connecting_error,
  reconnecting,
  closing,
  closed,
  dead
};
const char* path_state_name(PathState state);

// For people: a copy, taken on the home loop.
struct PathInfo {
  fabric::PathAddress address;      // as configured
  std::string name;                 // "<src>@<dst>" with real addresses once connected
  fabric::PathAddress connected{};  // with real addresses, those of the last connection
  PathState state = PathState::connecting;
  std::string fabric;          // "iwarp", "verbs"; empty until first tried
  fabric::DeviceName device;   // of RDMA
  std::string digest{};        // see fabric::Connection; empty while not connected
  std::error_code last_error;  // why it is not connected
  Duration latency{};          // of the last heartbeat
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, inflight = 0;
  std::uint64_t reconnects = 0, reconnect_failures = 0;
  std::uint64_t failed_over = 0;  // requests of other paths, lost with them and sent again here
  std::uint64_t errors = 0;       // requests the server answered with an error
  // Requests whose loop had moved from one CPU to another between sending and answer: by CPU.
  std::vector<std::uint64_t> migrated_from{}, migrated_to{};
  LatencyCounts wire{};  // requests from posted to answered, administrative ones not among them
  bool slow = false;     // its heartbeats take far longer than those of another path
  bool fenced = true;    // false: requests of its last connection are of unknown fate still
};

// Who a session is to its server: what the process that takes over from this one must know, so that
// the server can tell that it comes in this one's place. Kept on disk before the first write is
// sent; a reconnect count that has fallen behind does no harm.
struct PathIdentity {
  fabric::PathAddress address;   // as configured
  Uuid uuid{};                   // sess_uuid
  std::uint16_t reconnects = 0;  // recon_cnt of the last attempt
  bool operator==(const PathIdentity& other) const;
};
struct SessionIdentity {
  Uuid uuid{};  // paths_uuid
  std::vector<PathIdentity> paths;
  bool operator==(const SessionIdentity&) const = default;
};

// What is done with the writes of a lost path. fenced: they wait until the server is known to have
// done with the path. immediate: they go over another path at once; a copy left behind on the lost
// path may then undo a later write. Unsafe.
enum class Failover : std::uint8_t { fenced, immediate };

struct SessionOptions {
  std::string name;                        // 1..254 bytes, without '/' and '.'
  std::vector<fabric::PathAddress> paths;  // at least one
  // Take over from a dead predecessor: see Session::open. Each of its paths must be among `paths`.
  std::optional<SessionIdentity> resume{};
  HeartbeatOptions heartbeat{};                      // to kernel servers
  HeartbeatOptions fast_heartbeat = kFastHeartbeat;  // to our own
  Failover failover = Failover::fenced;
  // How long an unfenced path is waited for before time alone is taken as the fence: what the
  // server takes to miss the client, the longest its disks may take, and what a packet may live.
  Duration server_patience = std::chrono::seconds(35);
  Duration backend_patience = std::chrono::seconds(60);
  Duration packet_lifetime = std::chrono::seconds(1);
  Duration connect_timeout = std::chrono::seconds(5);  // per connection, and for the info response
  // How long open() tries again when the server refuses the session's name: the session of a client
  // that died lives on there until its heartbeats are missed (35 s with the kernel's intervals).
  Duration name_patience = std::chrono::seconds(40);
  Duration reconnect_delay = std::chrono::seconds(1);  // first delay; doubles up to the maximum
  Duration reconnect_delay_max = std::chrono::seconds(30);
  int max_reconnect_attempts = -1;     // -1: for ever
  std::uint32_t poll_connections = 0;  // extra connections announced (kernel: nr_poll_queues)
  PathPolicy policy = PathPolicy::min_inflight;
};

// Events of a session, on its home loop.
class SessionHandler {
 public:
  virtual ~SessionHandler() = default;
  // The first path is up: at open, and again after every total loss. Lanes take requests.
  virtual void on_session_connected() = 0;
  // The last path was lost. Every request in flight has been, or is being, completed with path_lost
  // on its lane. Reconnecting goes on by itself.
  virtual void on_session_disconnected(std::error_code why) = 0;
  // After close(), or when open() failed (`why`), or when reconnecting was given up. Last call.
  virtual void on_session_closed(std::error_code why) = 0;
  virtual void on_path_changed() {}
  // A path was lost with requests in flight, others live on, and this server knows no fence: its
  // writes are being completed with path_lost, and with ENOTCONN what waits for a permit when this
  // returns. They may be sent again after on_session_fenced. The
  // user may bring that about sooner, by closing on the server all that it has open there, waiting
  // for packet_lifetime, and declare_fenced().
  virtual void on_session_unfenced() {}
  virtual void on_session_fenced() {}
  // A server of ours says, or may have said over a path that was lost, that something this session
  // has open there has changed. Over several paths it comes several times.
  virtual void on_session_notice() {}
};

// Create, use and destroy on the home loop; destroy after on_session_closed (also from inside it),
// when every request submitted to a lane is done.
class Session {
 public:
  // Lane k lives on fabrics[k]'s loop; the home loop is fabrics[home]'s. All borrowed, all outlive
  // it. EINVAL for a bad name or no path.
  static Result<std::unique_ptr<Session>> create(std::span<fabric::Fabric* const> fabrics,
                                                 std::size_t home, Random& random,
                                                 SessionHandler& handler, SessionOptions options);
  virtual ~Session() = default;
  // Every path must come up, else on_session_closed with the first error. A session that resumes
  // another one's identity instead behaves as if it had lost its paths: it reconnects them, over
  // and over, until all are fenced: each was accepted once, as a server accepts a path only when
  // nothing of its last connection runs any more, or the server said so over another, or time has
  // passed. So on_session_connected says that no request of the predecessor can take effect.
  // Whoever has waited long enough calls close().
  virtual void open() = 0;
  virtual void close() = 0;  // requests in flight end with session_closed or their answer
  virtual const std::string& name() const = 0;
  virtual SessionLimits limits() const = 0;  // zeros until connected once
  virtual std::size_t lane_count() const = 0;
  virtual Lane& lane(std::size_t index) = 0;  // may be called anywhere; use it on its own loop
  virtual Lane& service_lane() = 0;           // administrative messages; on the home loop
  virtual std::vector<PathInfo> paths() const = 0;
  virtual const Uuid& uuid() const = 0;  // paths_uuid
  // Complete from the start; later reconnect counts change and paths come and go, each time with
  // on_path_changed.
  virtual SessionIdentity identity() const = 0;
  // Of our own servers; the instance is that of the paths which are up.
  virtual std::optional<wire::Extension> server_identity() const = 0;

  // Is every path that was lost fenced? See on_session_unfenced.
  virtual bool fenced() const = 0;
  virtual void declare_fenced() = 0;

  // Paths at run time; `done` runs on the home loop. A path is named by its index in paths().
  // EEXIST for an address pair that is there; else why it could not be connected, and then it is
  // not added.
  virtual void add_path(const fabric::PathAddress& address,
                        std::function<void(std::error_code)> done) = 0;
  // Takes a path down until reconnect_path(); the last one too.
  virtual void disconnect_path(std::size_t index, std::function<void(std::error_code)> done) = 0;
  // Tears a path down, if it is up, and connects it anew now. Its failure is told, of a path that
  // was up after connect_timeout, as its server may have to finish what it was; it goes on trying.
  virtual void reconnect_path(std::size_t index, std::function<void(std::error_code)> done) = 0;
  // Disconnects and forgets a path; the last one too: then only add_path() helps.
  virtual void remove_path(std::size_t index, std::function<void(std::error_code)> done) = 0;
  // The machine's link with this address went down: paths over it are lost now, not when heartbeats
  // are missed; or it came back: what waits for its next attempt tries at once.
  virtual void link_changed(const fabric::Address& local, bool up) = 0;
  virtual void set_policy(PathPolicy policy) = 0;
  virtual void set_max_reconnect_attempts(int attempts) = 0;  // of every path
  // Sets counters of a path in paths() back to zero; never those of what is in flight.
  virtual void reset_counters(std::size_t index, CounterGroup group) = 0;
};

}  // namespace rnbd::rtrs::client
