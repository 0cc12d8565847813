#pragma once
// For the conformance tests: one end of ours on a reactor, and a peer that is a plain socket and a
// script of bytes. Everything runs on the test's thread; nothing sleeps, every wait has a deadline.

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "fabric/iwarp/iwarp_fabric.h"
#include "reactor/testing.h"
#include "wire/mpa.h"
#include "wire/rdmap.h"

namespace rnbd::fabric::iwarp::scripted {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view hex);
std::string to_hex(std::span<const std::byte> bytes);
Bytes pattern(std::size_t size);
Bytes operator+(Bytes left, const Bytes& right);

// Frames as a peer may make them, right or wrong.
struct Frame {
  std::uint8_t ddp = wire::kDdpVersion;      // without T and L
  std::uint8_t rdmap = wire::kRdmapVersion;  // without the opcode
  bool tagged = false;
  bool last = true;
  unsigned op = 3;
  std::uint32_t stag = 0;
  std::uint64_t offset = 0;  // TO or MO
  std::uint32_t queue = 0;
  std::uint32_t sequence = 1;
  Bytes payload = {};
  std::byte pad{0};
  bool crc = true;
  Bytes bytes() const;
};
Frame write_frame(const RemoteSpan& at, std::uint64_t offset, Bytes payload, bool last = true);
Frame send_frame(std::uint32_t sequence, Bytes payload, std::uint64_t offset = 0, bool last = true);
Frame immediate_frame(std::uint32_t sequence, std::uint32_t immediate, std::uint32_t low = 0);

Bytes request(wire::MpaFrame frame);  // the frame's kind is set
Bytes reply(wire::MpaFrame frame);

// What our end was told.
class Recorder final : public ConnectionHandler {
 public:
  struct Message {
    ReceiveEvent::Kind kind{};
    std::uint64_t cookie = 0;
    Bytes bytes;
    std::uint32_t immediate = 0;
    std::uint32_t invalidated_key = 0;
  };
  bool connected = false, rejected = false, closed = false;
  Bytes private_data;
  std::vector<Message> messages;  // without flushed receives
  std::vector<std::uint64_t> flushed;
  std::vector<std::pair<std::uint64_t, std::error_code>> dones;
  std::error_code why;
  std::function<void(const ReceiveEvent&)> on_message;

 private:
  void on_connected(std::span<const std::byte> data) override;
  void on_rejected(std::span<const std::byte> data) override;
  void on_done(std::uint64_t cookie, std::error_code error) override {
    dones.emplace_back(cookie, error);
  }
  void on_receive(const ReceiveEvent& event) override;
  void on_closed(std::error_code reason) override;
};

// Our end with its reactor, and the peer's socket.
class Stage : public ListenHandler {
 public:
  explicit Stage(Options options = {});
  ~Stage() override;

  bool run_until(const std::function<bool()>& done, Duration limit = std::chrono::seconds(10));
  // Lets everything happen that is going to happen soon: for claims that something does not.
  void settle(Duration time = std::chrono::milliseconds(30));

  // We listen, the peer connects. `decide` is what our side does with a request; by default it
  // accepts.
  void listen();
  void peer_connects();
  std::function<void(std::unique_ptr<IncomingConnection>)> decide;
  void accept(std::unique_ptr<IncomingConnection> incoming,
              std::span<const std::byte> private_data = {});
  // Both, and a handshake with CRC as given: the peer is ready to send frames.
  void start(bool crc = true);
  // The peer listens, we connect: the Request has arrived when this returns.
  Bytes we_connect(std::size_t request_size, std::span<const std::byte> private_data = {});

  void send(const Bytes& bytes);  // all of it, however long it takes
  Bytes read(std::size_t bytes);  // exactly, or until the end
  bool read_end();                // reads and keeps everything to the end; true if it came orderly
  const Bytes& received() const { return received_; }
  void fin();
  void reset();
  // Our end says so in a Terminate, flushes and closes; nothing but the Terminate came after
  // `before` bytes.
  void expect_dies(const wire::TerminateCause& cause);
  void post_receives(std::size_t count, std::size_t size = 64);

  Reactor& reactor() { return *reactor_; }
  IwarpFabric& fabric() { return *fabric_; }
  Domain& domain() { return *domain_; }
  Recorder& us() { return us_; }
  Connection& connection() { return *connection_; }
  bool connection_made() const { return connection_ != nullptr; }
  Address address() const { return listener_->local_address(); }
  int fd() const { return peer_.get(); }
  ConnectionOptions depths{.send_depth = 64, .receive_depth = 64, .windows = 4};

 private:
  void on_connect_request(std::unique_ptr<IncomingConnection> incoming) override;
  bool take_bytes();  // false at the end of the stream
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<IwarpFabric> fabric_;
  std::unique_ptr<Domain> domain_;
  std::unique_ptr<Listener> listener_;
  Recorder us_;
  std::unique_ptr<Connection> connection_;
  std::vector<Bytes> buffers_;
  std::uint64_t last_receive_ = 0;
  UniqueFd peer_;
  Bytes received_;
  bool ended_ = false;
  bool ended_orderly_ = false;
};

}  // namespace rnbd::fabric::iwarp::scripted
