#pragma once
// One iWARP connection, either end: joins the receiving and the sending machine to a socket on the
// reactor. All posted in one round of the loop leaves in one system call at its end; what arrives
// is read until the socket is empty or a share of the round is used up.
//
//   dialing --> open --> draining --> lingering --> ended --> closed
// close(), errors and the peer's end lead to `ended` from anywhere, at once if nothing is left to
// be said. From `ended` a task hands back everything posted, then calls on_closed.

#include <optional>

#include "fabric/fabric.h"
#include "fabric/iwarp/dial.h"
#include "fabric/iwarp/keys.h"
#include "fabric/iwarp/linger.h"
#include "fabric/iwarp/options.h"
#include "fabric/iwarp/receiver.h"
#include "fabric/iwarp/transmitter.h"

namespace rnbd::fabric::iwarp {

class IwarpConnection final : public Connection, private DialHandler, private ReceiveSink {
 public:
  IwarpConnection(Reactor& reactor, const Options& options, Random& random,
                  const IwarpDomain& domain, const ConnectionOptions& depths,
                  ConnectionHandler& handler);
  ~IwarpConnection() override;

  // Once, either of them.
  std::error_code dial(const ConnectRequest& request);
  void adopt(UniqueFd fd, bool crc, const Address& local, const Address& peer);

  std::error_code post(std::span<const Work> batch) override;
  std::error_code post_receive(std::span<std::byte> buffer, std::uint64_t cookie) override;
  Result<RemoteSpan> expose(std::uint32_t window, std::span<const iovec> local) override;
  void hide(std::uint32_t window) override;
  void forget(std::uint32_t window) override;
  bool filled(std::uint32_t window) const override { return keys_.filled(window); }
  void close(std::error_code why, bool graceful) override;
  const Address& local_address() const override { return local_; }
  const Address& peer_address() const override { return peer_; }

  const char* digest() const override { return crc_ ? "crc32c" : "none"; }

 private:
  enum class State : std::uint8_t { dialing, open, draining, lingering, ended, closed };

  // DialHandler
  void on_answered(UniqueFd fd, bool crc, const wire::MpaFrame& reply) override;
  void on_dial_failed(std::error_code why) override;
  // ReceiveSink
  void on_receive(const ReceiveEvent& event) override { handler_.on_receive(event); }

  void establish(UniqueFd fd, bool crc);
  void announce();
  void on_readable(std::uint32_t events);
  void on_writable(std::uint32_t events);
  void on_timeout();
  void read();
  void on_bytes_or_receive();
  bool handle(Receiver::Status status);
  void flush();
  void transmit();
  void deliver_done();
  // True when all of `pieces` was taken; else the rest waits for room, or the connection has ended.
  bool send(std::span<const iovec> pieces, std::size_t& sent);
  bool may_send() const { return initiator_ || receiver_->heard(); }

  void on_fault();
  void on_terminated();
  void on_end_of_stream();
  void drain();
  void linger();
  void end(std::error_code why);  // resets whatever is still connected
  void ended();
  void hand_back();

  Reactor& reactor_;
  const Options& options_;
  const ConnectionOptions depths_;
  ConnectionHandler& handler_;
  State state_ = State::dialing;
  bool initiator_ = true;
  bool crc_ = true;
  bool socket_full_ = false;   // wait for room before sending more
  bool end_in_sight_ = false;  // the peer's FIN or RST is behind what is to be read
  bool graceful_ = false;      // draining: everything posted leaves, not only what is under way
  std::optional<std::error_code> why_;  // set when the end begins
  Address local_, peer_;

  Keys keys_;
  ReceiveQueue receives_;
  std::unique_ptr<Dial> dial_;
  UniqueFd fd_;
  std::optional<Receiver> receiver_;
  std::optional<Transmitter> transmitter_;
  std::array<std::byte, wire::kTerminateFpduMax> terminate_{};
  std::span<const std::byte> terminate_rest_;
  Linger linger_;

  Watch read_watch_ = Watch::of<&IwarpConnection::on_readable>(this);
  Watch write_watch_ = Watch::of<&IwarpConnection::on_writable>(this);
  Timer timer_;  // open: a receive is missing; draining: how long it may take
  Task announce_ = Task::of<&IwarpConnection::announce>(this);
  Task flush_ = Task::of<&IwarpConnection::flush>(this);
  Task read_ = Task::of<&IwarpConnection::on_bytes_or_receive>(this);
  Task hand_back_ = Task::of<&IwarpConnection::hand_back>(this);
};

}  // namespace rnbd::fabric::iwarp
