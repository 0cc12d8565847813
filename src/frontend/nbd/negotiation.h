#pragma once
// One client that is still negotiating: a Handshake with a socket and a deadline, on the home
// reactor. When it is over the handler is told once, from the loop; then the socket and what was
// received behind the handshake are there to be taken.

#include <vector>

#include "base/unique_fd.h"
#include "frontend/nbd/handshake.h"
#include "reactor/reactor.h"

namespace rnbd::nbd {

class Negotiation;
class NegotiationHandler {
 public:
  virtual ~NegotiationHandler() = default;
  virtual void on_negotiated(Negotiation& negotiation) = 0;  // do not destroy it from inside
};

class Negotiation final {
 public:
  Negotiation(Reactor& reactor, UniqueFd socket, const ExportDirectory& exports, Duration timeout,
              NegotiationHandler& handler);

  bool over() const { return over_; }
  bool agreed() const { return agreed_; }  // over, and the client goes on to transmission
  const Handshake& handshake() const { return handshake_; }
  UniqueFd take_socket() { return std::move(socket_); }
  std::vector<std::byte> take_received() { return std::move(received_); }

 private:
  void on_ready(std::uint32_t) { advance(); }
  void advance();
  bool send();
  bool receive();
  void end(bool agreed);
  void time_out();
  void tell() { handler_.on_negotiated(*this); }

  Reactor& reactor_;
  UniqueFd socket_;
  NegotiationHandler& handler_;
  Handshake handshake_;
  std::vector<std::byte> received_;  // not consumed yet
  std::size_t sent_ = 0;             // of the handshake's output
  bool over_ = false;
  bool agreed_ = false;
  Watch watch_ = Watch::of<&Negotiation::on_ready>(this);
  Timer timeout_;
  Task tell_task_ = Task::of<&Negotiation::tell>(this);
  Task advance_task_ = Task::of<&Negotiation::advance>(this);
};

}  // namespace rnbd::nbd
