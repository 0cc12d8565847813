#pragma once
// What the suite puts on a fabric: ends that record everything they are told and complain when they
// are called from inside a call, or after the last one; and a pair of them, connected.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fabric/conformance.h"

namespace rnbd::fabric::conformance {

using Bytes = std::vector<std::byte>;

Bytes pattern(std::size_t size, std::uint64_t seed = 1);
std::span<const std::byte> as_bytes(std::string_view text);
iovec vec(std::span<const std::byte> bytes);

// Work items.
Work send_work(std::span<const iovec> local, std::uint64_t cookie = 0);
Work immediate_work(std::uint32_t immediate, std::uint64_t cookie = 0);
Work write_work(std::span<const iovec> local, const RemoteSpan& remote, std::uint64_t cookie = 0);
Work write_imm_work(std::span<const iovec> local, const RemoteSpan& remote, std::uint32_t immediate,
                    std::uint64_t cookie = 0);
RemoteSpan at(RemoteSpan span, std::uint64_t offset);

// While one exists no handler may be called.
class InsideCall {
 public:
  InsideCall() { ++depth; }
  ~InsideCall() { --depth; }
  static inline int depth = 0;
};

struct Received {
  ReceiveEvent::Kind kind{};
  std::uint64_t cookie = 0;
  Bytes bytes;
  std::uint32_t immediate = 0;
  std::uint32_t invalidated_key = 0;
};

// One end: a connection and its handler. Calls go through it so that reentrancy is seen.
class End final : public ConnectionHandler {
 public:
  ~End() override;
  // Waits for nothing; the connection must be closed before it goes.
  void own(Result<std::unique_ptr<Connection>> connection);
  Connection& operator*() { return *connection_; }

  std::error_code post(const Work& work) { return post(std::span(&work, 1)); }
  std::error_code post(std::span<const Work> batch);
  std::error_code post_receive(std::span<std::byte> buffer, std::uint64_t cookie);
  void post_receives(std::size_t count,
                     std::size_t size = 0);  // cookies 1, 2, ... of its own buffers
  RemoteSpan expose(std::uint32_t window, std::span<const iovec> local);
  RemoteSpan expose(std::uint32_t window, std::span<std::byte> local);
  void hide(std::uint32_t window);
  void forget(std::uint32_t window);
  void close(std::error_code why = Errc::session_closed, bool graceful = false);

  std::size_t receives_of(ReceiveEvent::Kind kind) const;
  std::size_t flushed_receives() const { return receives_of(ReceiveEvent::Kind::flushed); }
  std::size_t messages() const { return received.size() - flushed_receives(); }
  std::size_t failed_dones() const;
  bool is_closed() const { return closed == 1; }
  void wait_closed(Harness& harness);

  // The history.
  int connected = 0;
  int rejected = 0;
  int closed = 0;
  Bytes private_data;
  std::error_code why;
  std::vector<std::pair<std::uint64_t, std::error_code>> dones;
  std::vector<Received> received;
  std::vector<std::string> order;  // of the kinds of events
  bool keep_order = false;

  // What to do beside recording.
  bool destroy_when_closed = false;
  std::function<void(const ReceiveEvent&)> receive_hook;
  std::function<void(std::uint64_t)> done_hook;
  std::function<void()> connected_hook;

 private:
  void on_connected(std::span<const std::byte> data) override;
  void on_rejected(std::span<const std::byte> data) override;
  void on_done(std::uint64_t cookie, std::error_code error) override;
  void on_receive(const ReceiveEvent& event) override;
  void on_closed(std::error_code reason) override;
  void called(const char* what);
  std::unique_ptr<Connection> connection_;
  std::vector<Bytes> buffers_;
  std::uint64_t last_receive_ = 0;
};

// Collects connect requests, or answers each at once.
class Door final : public ListenHandler {
 public:
  std::vector<std::unique_ptr<IncomingConnection>> requests;
  std::function<void(std::unique_ptr<IncomingConnection>)> answer;

 private:
  void on_connect_request(std::unique_ptr<IncomingConnection> request) override;
};

inline constexpr ConnectionOptions kDefaultOptions{
    .send_depth = 64, .receive_depth = 64, .windows = 8};

// A listener, a domain on each side, and connections between them. Closes all in its destructor.
class Pair {
 public:
  explicit Pair(Harness& harness, std::size_t connections = 1,
                ConnectionOptions options = kDefaultOptions);
  ~Pair();
  // One more connection of the same domains, from client fabric `fabric`.
  void connect_one(ConnectionOptions options, std::size_t fabric = 0);
  End& client(std::size_t nth = 0) { return *clients_[nth]; }
  End& server(std::size_t nth = 0) { return *servers_[nth]; }
  // Memory of the server's domain that clients may write, and of the client's.
  Memory& server_memory(const MemoryOptions& options);
  Memory& client_memory(const MemoryOptions& options);
  const Address& address() const { return listener_->local_address(); }
  Domain& client_domain() { return *client_domain_; }
  Domain& server_domain() { return *server_domain_; }
  // Closes what is not closed, and waits for on_closed everywhere.
  void close_all();

 private:
  Harness& harness_;
  Door door_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Domain> client_domain_;
  std::unique_ptr<Domain> server_domain_;
  std::vector<std::unique_ptr<Memory>> memories_;
  std::vector<std::unique_ptr<End>> clients_;
  std::vector<std::unique_ptr<End>> servers_;
};

}  // namespace rnbd::fabric::conformance
