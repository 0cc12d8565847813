#pragma once
// What RTRS needs of a network with remote memory access, and nothing more. Implementations: sim,
// iwarp, verbs; one conformance suite (conformance.h) runs on all.
//
// The contract:
// 1. In order. Data of earlier writes is visible before a later immediate is delivered.
// 2. A work item is done when its buffer is the poster's again, not when the peer acted.
// 3. Each arriving send or immediate uses up one posted receive; if none is posted in time the
// connection
//    closes with Errc::receive_queue_empty.
// 4. No handler is called from inside post, post_receive, close, connect or accept: events come
// from the
//    loop, so an object is consistent when its handler runs.
// 5. After close() or an error every posted item completes exactly once, then on_closed comes, last
// and
//    once. After on_closed not one byte of registered memory is touched by that connection.
// 6. The initiator speaks first: what the acceptor posts may wait until the initiator's first
// message came.
// 7. Everything of one Fabric lives on one loop; Domains and Memory may be shared by connections on
//    several loops, see there.

#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"
#include "base/loop.h"
#include "fabric/address.h"

namespace rnbd::fabric {

// Memory of a peer, as its descriptor names it. Opaque numbers.
struct RemoteSpan {
  std::uint64_t address = 0;
  std::uint32_t key = 0;
  std::uint32_t length = 0;
};

enum class Access : std::uint8_t { local_only, remote_write };

struct MemoryOptions {
  std::size_t size = 0;  // bytes
  Access access = Access::remote_write;
  // When not 0 the memory is cut into chunks of this size, each with a gate (see Memory).
  std::size_t chunk_size = 0;
};

// Registered bytes: mapped by the fabric, zeroed, populated when first touched. Destroy after
// on_closed of every connection of its domain.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual std::span<std::byte> bytes() = 0;
  // A descriptor for [offset, offset + length), valid on every connection of the domain.
  virtual RemoteSpan remote(std::size_t offset, std::size_t length) const = 0;
  // While a chunk's gate is shut a peer's write to it is a fault that closes the connection.
  // Fabrics that cannot do this ignore it, and where gates have keys it does nothing: see
  // Connection::open_gate. Any thread.
  virtual void set_gate(std::size_t chunk, bool open) = 0;
};

// What the answer to a connect request carries on every fabric, however little the request does.
inline constexpr std::size_t kAcceptDataMin = 196;

struct Capabilities {
  const char* name = "";  // "sim", "iwarp", "verbs"
  bool send_imm = false;
  bool remote_invalidate = false;  // a peer may invalidate our windows
  bool send_invalidate = false;    // we may invalidate a peer's: Work::Op::send_invalidate
  bool keyed_gates = false;        // chunks have keys of their own: Connection::open_gate
  std::size_t max_private_data = 56;
};

// An RDMA device and its port, as the administrator knows it.
struct DeviceName {
  std::string name;  // "mlx5_0"; empty where there is none
  unsigned port = 0;
};
inline std::string to_text(const DeviceName& device) {
  return device.name.empty() ? "" : device.name + "/" + std::to_string(device.port);
}

// A protection domain: the connections of one RTRS path, which share its keys and nobody else's.
// Create and destroy on one thread; register before connections use it. Destroy after its Memory.
class Domain {
 public:
  virtual ~Domain() = default;
  virtual const Capabilities& capabilities() const = 0;  // of its connections
  virtual DeviceName device() const { return {}; }       // they run on
  virtual Result<std::unique_ptr<Memory>> register_memory(const MemoryOptions& options) = 0;
};

struct Work {
  enum class Op : std::uint8_t {
    send,             // bytes of `local` into the peer's next receive
    send_invalidate,  // the same, and the peer's key `invalidate_key` dies before delivery
    send_imm,         // the same with an immediate; only where Capabilities::send_imm
    write,            // bytes of `local` into `remote`
    write_imm,        // the same, then `immediate`; with no bytes `remote` is not looked at
  };
  Op op = Op::write_imm;
  std::span<const iovec>
      local{};          // memory stays untouched until done; the iovec array itself is copied
  RemoteSpan remote{};  // remote.length is ignored: the local bytes count
  std::uint32_t immediate = 0;  // host order
  std::uint32_t invalidate_key = 0;
  // Not 0: on_done(cookie) comes when the local buffer is free. 0: nobody is told.
  std::uint64_t cookie = 0;
};

struct ReceiveEvent {
  enum class Kind : std::uint8_t { send, immediate, send_with_immediate, flushed };
  Kind kind = Kind::immediate;
  std::uint64_t cookie = 0;           // of the posted receive used up
  std::span<std::byte> bytes;         // send: what was filled of the posted buffer
  std::uint32_t immediate = 0;        // host order
  std::uint32_t invalidated_key = 0;  // send that invalidated a window's key; 0 if none
};

class ConnectionHandler {
 public:
  virtual ~ConnectionHandler() = default;
  // Initiator: the peer accepted, with this private data (valid during the call only).
  // Acceptor: the connection may be used (no private data).
  virtual void on_connected(std::span<const std::byte> private_data) = 0;
  // Initiator: the peer refused, with private data if it gave any. on_closed follows.
  virtual void on_rejected(std::span<const std::byte> private_data) = 0;
  virtual void on_done(std::uint64_t cookie, std::error_code error) = 0;
  virtual void on_receive(const ReceiveEvent& event) = 0;
  // Everything posted has been handed back. The connection may be destroyed, also from inside this
  // call.
  virtual void on_closed(std::error_code why) = 0;
};

struct ConnectionOptions {
  std::uint32_t send_depth = 0;     // most work items not yet done
  std::uint32_t receive_depth = 0;  // most receives posted
  std::uint32_t windows = 0;        // local memory windows (see expose)
};

// One reliable ordered channel. One loop. Destroy only after on_closed.
class Connection {
 public:
  virtual ~Connection() = default;
  // All or none, in order, one doorbell. ENOBUFS when they do not fit send_depth, ENOTCONN when
  // closed. What several calls post in one round of the loop may leave in one system call.
  virtual std::error_code post(std::span<const Work> batch) = 0;
  // `buffer` may be empty where only immediates and empty sends are expected.
  virtual std::error_code post_receive(std::span<std::byte> buffer, std::uint64_t cookie) = 0;
  // Lets the peer write into `local` (in order, as one range) under a fresh key, until hide() or a
  // remote invalidation. `window` < options.windows and hidden. The iovec array is copied.
  virtual Result<RemoteSpan> expose(std::uint32_t window, std::span<const iovec> local) = 0;
  // After it returns the peer can no longer write there, and what it wrote is in `local`: not
  // before, where a fabric takes the bytes in elsewhere; there `local` bytes it did not write are
  // undefined. Hiding a hidden window is a no-op; a closed connection's windows are hidden as they
  // are.
  virtual void hide(std::uint32_t window) = 0;
  // Lets go of `local` before the peer has done with the window: from now on nobody touches it, and
  // what the peer still writes under the key, until hide(), is thrown away.
  virtual void forget(std::uint32_t window) = 0;
  // Whether the peer has written the whole of an exposed window, in order. True where the fabric
  // cannot tell.
  virtual bool filled(std::uint32_t /*window*/) const { return true; }
  // Where gates have keys (Capabilities::keyed_gates): all are shut at first. Opening gives the
  // chunk a fresh key, good on every connection of the domain before anything posted after it
  // arrives. When shutting is done, without an error, no peer can write to the chunk and its key is
  // dead. Both are work items, in order with all that is posted, and told by on_done. One at a time
  // per chunk, on any connection of the domain: the next when the last is done.
  virtual Result<RemoteSpan> open_gate(Memory& /*memory*/, std::size_t /*chunk*/,
                                       std::uint64_t /*cookie*/) {
    return fail_errno(EOPNOTSUPP);
  }
  virtual std::error_code shut_gate(Memory& /*memory*/, std::size_t /*chunk*/,
                                    std::uint64_t /*cookie*/) {
    return from_errno(EOPNOTSUPP);
  }
  // Aborts: `why` comes back in on_closed. Closing again is a no-op. `graceful` lets posted work
  // leave first (bounded time).
  virtual void close(std::error_code why, bool graceful = false) = 0;
  virtual const Address& local_address() const = 0;
  virtual const Address& peer_address() const = 0;
  // What every frame carries against bytes that change on their way, once connected: "crc32c",
  // "icrc" (of RDMA, by the adapter), "none". Constant text.
  virtual const char* digest() const { return "none"; }
};

// A connect request waiting for its answer. May be moved to another thread, and accepted by the
// fabric of that thread's loop. Dropping it closes it without an answer.
class IncomingConnection {
 public:
  virtual ~IncomingConnection() = default;
  virtual std::span<const std::byte> private_data() const = 0;
  virtual const Address& local_address() const = 0;
  virtual const Address& peer_address() const = 0;
};

class ListenHandler {
 public:
  virtual ~ListenHandler() = default;
  virtual void on_connect_request(std::unique_ptr<IncomingConnection> request) = 0;
};

// Stops listening when destroyed; no handler call afterwards.
class Listener {
 public:
  virtual ~Listener() = default;
  virtual const Address& local_address() const = 0;  // with the real port if 0 was asked for
};

struct ConnectRequest {
  PathAddress address;
  std::span<const std::byte> private_data;     // copied
  Duration timeout = std::chrono::seconds(5);  // from the call to on_connected
};

class Fabric {
 public:
  virtual ~Fabric() = default;
  virtual Loop& loop() = 0;
  virtual const Capabilities& capabilities() const = 0;
  // How many ways there are to carry a path to that address: 0 or 1, but for a fabric made of
  // several.
  virtual std::size_t ways(const PathAddress& address) = 0;
  // A domain for the connections of one path: an acceptor's, known from the first that came in, or
  // an initiator's by one of its ways, the best being 0. It may be used by connections of other
  // Fabrics of the same kind. ENODEV: no such way.
  virtual Result<std::unique_ptr<Domain>> create_domain(const IncomingConnection& first) = 0;
  virtual Result<std::unique_ptr<Domain>> create_domain(const PathAddress& address,
                                                        std::size_t way) = 0;
  Result<std::unique_ptr<Domain>> create_domain(const PathAddress& address) {
    return create_domain(address, 0);
  }
  virtual Result<std::unique_ptr<Connection>> connect(const ConnectRequest& request, Domain& domain,
                                                      const ConnectionOptions& options,
                                                      ConnectionHandler& handler) = 0;
  // Answers yes on this fabric's loop, whichever loop received it. Receives may be posted at once;
  // nothing is delivered before the caller has returned to the loop.
  virtual Result<std::unique_ptr<Connection>> accept(std::unique_ptr<IncomingConnection> request,
                                                     Domain& domain,
                                                     std::span<const std::byte> private_data,
                                                     const ConnectionOptions& options,
                                                     ConnectionHandler& handler) = 0;
  // Answers no. On the loop of this fabric.
  virtual void reject(std::unique_ptr<IncomingConnection> request,
                      std::span<const std::byte> private_data) = 0;
  virtual Result<std::unique_ptr<Listener>> listen(const Address& address,
                                                   ListenHandler& handler) = 0;
};

}  // namespace rnbd::fabric
