#include "frontend/nbd/negotiation.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/log.h"

namespace rnbd::nbd {

Negotiation::Negotiation(Reactor& reactor, UniqueFd socket, const ExportDirectory& exports,
                         Duration timeout, NegotiationHandler& handler)
    : reactor_(reactor),
      socket_(std::move(socket)),
      handler_(handler),
      handshake_(exports),
      timeout_(Timer::of<&Negotiation::time_out>(reactor, this)) {
  timeout_.arm_after(timeout);
  watch_.start(reactor_, socket_.get(), POLLIN | POLLOUT | POLLRDHUP);
  reactor_.defer(advance_task_);
}

// Output first: nothing more is read while the client does not take its answers.
void Negotiation::advance() {
  while (!over_) {
    if (!send()) return;
    if (handshake_.state() == Handshake::State::transmission) return end(true);
    if (handshake_.state() == Handshake::State::ended) return end(false);
    const std::size_t used = handshake_.feed(received_);
    received_.erase(received_.begin(), received_.begin() + static_cast<std::ptrdiff_t>(used));
    if (used == 0 && handshake_.state() == Handshake::State::negotiating && !receive()) return;
  }
}

// True when all output is out.
bool Negotiation::send() {
  auto& output = handshake_.output();
  while (sent_ < output.size()) {
    const ssize_t sent = ::send(socket_.get(), output.data() + sent_, output.size() - sent_,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) {
      if (errno != EAGAIN && errno != EWOULDBLOCK) end(false);
      return false;
    }
    sent_ += static_cast<std::size_t>(sent);
  }
  output.clear();
  sent_ = 0;
  return true;
}

// True when something came. What is kept never exceeds the longest message by more than one
// receive.
bool Negotiation::receive() {
  constexpr std::size_t kReceive = 4096;
  RNBD_ASSERT(received_.size() <= Handshake::kMessageMax);
  const std::size_t before = received_.size();
  received_.resize(before + kReceive);
  ssize_t got = 0;
  do {
    got = ::recv(socket_.get(), received_.data() + before, kReceive, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  const int error = errno;
  received_.resize(before + (got > 0 ? static_cast<std::size_t>(got) : 0));
  if (got > 0) return true;
  if (got == 0 || (error != EAGAIN && error != EWOULDBLOCK)) end(false);
  return false;
}

void Negotiation::end(bool agreed) {
  if (over_) return;
  over_ = true;
  agreed_ = agreed;
  watch_.stop();
  timeout_.disarm();
  if (!agreed) socket_.reset();
  reactor_.defer(tell_task_);
}

void Negotiation::time_out() {
  log_info("nbd: a client did not finish its handshake in time");
  end(false);
}

}  // namespace rnbd::nbd
