#include "fabric/iwarp/dial.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {

bool demands_crc(CrcPolicy policy, const Address& local, const Address& peer) {
  switch (policy) {
    case CrcPolicy::automatic:
      return !peer.is_loopback() && !local.is_unix() && !peer.same_host(local);
    case CrcPolicy::on:
    case CrcPolicy::strict:
      return true;
    case CrcPolicy::off:
      return false;
  }
  return true;
}

Dial::Dial(Reactor& reactor, const Options& options, const ConnectRequest& request,
           DialHandler& handler)
    : reactor_(reactor),
      options_(options),
      handler_(handler),
      destination_(request.address.destination),
      private_data_(request.private_data.begin(), request.private_data.end()),
      deadline_(reactor.now() + request.timeout),
      timer_(Timer::of<&Dial::on_timeout>(reactor, this)) {}

Dial::~Dial() {
  watch_.stop();
  if (fd_) abort_socket(std::move(fd_));
}

Result<std::unique_ptr<Dial>> Dial::start(Reactor& reactor, const Options& options,
                                          const ConnectRequest& request, DialHandler& handler) {
  if (request.private_data.size() > wire::kMpaUserDataMax) return fail_errno(EMSGSIZE);
  std::unique_ptr<Dial> dial(new Dial(reactor, options, request, handler));
  if (const auto error = dial->open(request.address)) return fail(error);
  return dial;
}

std::error_code Dial::open(const PathAddress& address) {
  if (address.destination.empty()) return from_errno(EDESTADDRREQ);
  auto made = make_socket(address.destination.family());
  if (!made) return made.error();
  fd_ = std::move(*made);
  tune_socket(fd_.get(), address.destination.family(), options_);
  if (!address.source.empty()) {
    if (address.source.family() != address.destination.family()) return from_errno(EAFNOSUPPORT);
    Address source = address.source;
    source.set_port(0);
    if (::bind(fd_.get(), source.data(), source.length()) != 0) return from_errno(errno);
  }
  timer_.arm_at(deadline_);
  if (::connect(fd_.get(), address.destination.data(), address.destination.length()) == 0 ||
      errno == EINPROGRESS) {
    watch_.start(reactor_, fd_.get(), POLLOUT);
    return {};
  }
  failure_ = from_errno(errno);
  reactor_.defer(report_);
  return {};
}

void Dial::report() { fail_with(failure_); }

void Dial::fail_with(std::error_code why) {
  timer_.disarm();
  watch_.stop();
  handler_.on_dial_failed(why);
}

void Dial::on_timeout() {
  fail_with(request_sent_ ? make_error_code(Errc::handshake_timeout) : from_errno(ETIMEDOUT));
}

void Dial::on_ready(std::uint32_t) {
  if (request_sent_) {
    read_reply();
    return;
  }
  if (const auto error = socket_error(fd_.get())) return fail_with(error);
  if (peer_address_of(fd_.get()).empty()) return;  // not yet
  if (const auto error = send_request()) return fail_with(error);
  request_sent_ = true;
  timer_.arm_at(std::min(deadline_, reactor_.now() + options_.reply_timeout));
  watch_.start(reactor_, fd_.get(), POLLIN | POLLRDHUP);
}

std::error_code Dial::send_request() {
  want_crc_ = demands_crc(options_.crc, local_address_of(fd_.get()), destination_);
  const wire::MpaFrame request{.kind = wire::MpaKind::request,
                               .crc = want_crc_,
                               .enhanced = options_.mpa_revision >= 2,
                               .revision = options_.mpa_revision,
                               .user_data = private_data_};
  std::array<std::byte, wire::kMpaFrameMax> frame;
  const std::size_t size = wire::build_mpa_frame(request, frame);
  return send_all(fd_.get(), std::span(frame).first(size));
}

void Dial::read_reply() {
  while (!reply_.complete()) {
    const auto room = reply_.wanted();
    const ssize_t n = ::recv(fd_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) return fail_with(from_errno(errno));
    if (n == 0) return fail_with(Errc::handshake_closed);
    if (const auto error = reply_.received(static_cast<std::size_t>(n))) return fail_with(error);
  }
  const wire::MpaFrame reply = reply_.frame();
  // Markers we never send; a peer that insists cannot be talked to.
  if (reply.markers && !reply.rejected) return fail_with(Errc::framing_error);
  timer_.disarm();
  watch_.stop();
  handler_.on_answered(std::move(fd_), want_crc_ || reply.crc, reply);
}

}  // namespace rnbd::fabric::iwarp
