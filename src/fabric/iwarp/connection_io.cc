// The half of IwarpConnection that moves bytes, and what their end means.

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/log.h"
#include "fabric/iwarp/connection.h"
#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {
namespace {

// Bytes one connection may read in one round of the loop before others have their turn.
constexpr std::size_t kReadShare = std::size_t{1} << 20;

std::size_t size_of(std::span<const iovec> pieces) {
  std::size_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  return bytes;
}

// const_cast: msghdr knows no const, the calls do not write to the list.
msghdr message_of(std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());
  message.msg_iovlen = pieces.size();
  return message;
}

ssize_t receive_into(int fd, std::span<const iovec> pieces) {
  if (pieces.size() == 1) return ::recv(fd, pieces[0].iov_base, pieces[0].iov_len, MSG_DONTWAIT);
  msghdr message = message_of(pieces);
  return ::recvmsg(fd, &message, MSG_DONTWAIT);
}

ssize_t send_from(int fd, std::span<const iovec> pieces) {
  constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
  if (pieces.size() == 1) return ::send(fd, pieces[0].iov_base, pieces[0].iov_len, kFlags);
  const msghdr message = message_of(pieces);
  return ::sendmsg(fd, &message, kFlags);
}

// Everything we sent has been acknowledged: closing leaves nothing behind that could still arrive.
bool all_arrived(int fd, const Address& peer) {
  int queued = 0;
  return peer.is_unix() || (::ioctl(fd, SIOCOUTQ, &queued) == 0 && queued == 0);
}

}  // namespace

void IwarpConnection::on_readable(std::uint32_t events) {
  if ((events & ~unsigned{POLLIN}) != 0) end_in_sight_ = true;
  on_bytes_or_receive();
}

void IwarpConnection::on_bytes_or_receive() {
  if (state_ != State::open) return;
  if (receiver_->status() == Receiver::Status::blocked) {
    if (receives_.empty() || !handle(receiver_->resume())) return;
  }
  read();
}

void IwarpConnection::read() {
  std::size_t read = 0;
  while (read < kReadShare) {
    const auto pieces = receiver_->prepare();
    const std::size_t room = size_of(pieces);
    const ssize_t n = receive_into(fd_.get(), pieces);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) return end(from_errno(errno));
    if (n == 0) return on_end_of_stream();
    const auto bytes = static_cast<std::size_t>(n);
    if (!handle(receiver_->received(bytes))) return;
    if (bytes < room && !end_in_sight_) return;  // the socket is empty
    read += bytes;
  }
  reactor_.defer(read_);
}

// True if reading may go on.
bool IwarpConnection::handle(Receiver::Status status) {
  // Our queue was held until the initiator's first frame (RFC 5044 section 7.1.2).
  if (!initiator_ && receiver_->heard() && !transmitter_->idle()) reactor_.defer(flush_);
  switch (status) {
    case Receiver::Status::more:
      return true;
    case Receiver::Status::blocked:
      timer_.arm_after(options_.receive_grace);
      return false;
    case Receiver::Status::fault:
      on_fault();
      return false;
    case Receiver::Status::terminated:
      on_terminated();
      return false;
    case Receiver::Status::stopped:
      return false;
  }
  return false;
}

void IwarpConnection::on_timeout() {
  if (state_ == State::open) {
    handle(receiver_->give_up_waiting());
  } else if (state_ == State::draining) {
    end(*why_);
  }
}

void IwarpConnection::flush() {
  if (state_ == State::draining) return drain();
  if (state_ != State::open) return;
  transmit();
  deliver_done();
}

void IwarpConnection::deliver_done() {
  while (state_ == State::open || state_ == State::draining) {
    const auto cookie = transmitter_->pop_done();
    if (!cookie) return;
    handler_.on_done(*cookie, {});
  }
}

void IwarpConnection::transmit() {
  if (!may_send()) return;
  while (!socket_full_ && state_ == State::open) {
    const auto pieces = transmitter_->gather();
    if (pieces.empty()) return;
    std::size_t sent = 0;
    const bool all = send(pieces, sent);
    transmitter_->taken(sent);
    if (!all) return;
  }
}

bool IwarpConnection::send(std::span<const iovec> pieces, std::size_t& sent) {
  sent = 0;
  ssize_t n = -1;
  do {
    n = send_from(fd_.get(), pieces);
  } while (n < 0 && errno == EINTR);
  if (n < 0 && errno != EAGAIN) {
    end(from_errno(errno));
    return false;
  }
  if (n > 0) sent = static_cast<std::size_t>(n);
  if (sent == size_of(pieces)) return true;
  socket_full_ = true;
  // TCP tells of room only after it had none, so the watch may stay; Unix sockets tell each time.
  if (!write_watch_.active()) write_watch_.start(reactor_, fd_.get(), POLLOUT);
  return false;
}

void IwarpConnection::on_writable(std::uint32_t) {
  if (!socket_full_) return;
  socket_full_ = false;
  flush();
  if (!socket_full_ && peer_.is_unix()) write_watch_.stop();
}

void IwarpConnection::on_fault() {
  const Fault& fault = receiver_->fault();
  log_warning("iwarp: {} is cut off: {} (terminate {}/{}/{:02x}: {})", peer_.to_string_with_port(),
              fault.error.message(), fault.cause.layer, fault.cause.type, fault.cause.code,
              wire::terminate_name(fault.cause));
  const std::size_t size = wire::build_terminate(fault.cause, receiver_->culprit(),
                                                 receiver_->culprit_length(), crc_, terminate_);
  terminate_rest_ = std::span(terminate_).first(size);
  why_ = fault.error;
  state_ = State::draining;
  timer_.arm_after(options_.drain_timeout);
  reactor_.defer(flush_);
}

void IwarpConnection::on_terminated() {
  const auto reading = wire::describe_terminate(receiver_->terminate_payload());
  log_warning(
      "iwarp: {} ended the connection: terminate {}{}", peer_.to_string_with_port(), reading.text,
      reading.unexpected_opcode ? "; its iWARP stack may lack Immediate Data (RFC 7306)" : "");
  why_ = reading.unexpected_opcode ? Errc::peer_lacks_immediate : Errc::peer_terminated;
  linger();
}

void IwarpConnection::on_end_of_stream() {
  why_ = receiver_->between_messages() ? Errc::peer_closed : Errc::framing_error;
  // What is queued may still leave if it goes at once; then both directions are closed.
  transmit();
  if (state_ != State::open) return;
  if (!all_arrived(fd_.get(), peer_)) return end(*why_);
  receiver_->stop();
  read_watch_.stop();
  write_watch_.stop();
  fd_.reset();
  ended();
}

// Sends what is to be sent before our FIN: the rest of the frames under way, a Terminate; or all,
// if graceful.
void IwarpConnection::drain() {
  while (!socket_full_ && state_ == State::draining) {
    const auto pieces =
        graceful_ && may_send() ? transmitter_->gather() : transmitter_->unfinished();
    std::size_t sent = 0;
    if (!pieces.empty()) {
      send(pieces, sent);
      transmitter_->taken(sent);
    } else if (!terminate_rest_.empty()) {
      // const_cast: see message_of.
      const iovec piece{const_cast<std::byte*>(terminate_rest_.data()), terminate_rest_.size()};
      send({&piece, 1}, sent);
      terminate_rest_ = terminate_rest_.subspan(sent);
    } else {
      linger();
    }
  }
  deliver_done();
}

void IwarpConnection::linger() {
  state_ = State::lingering;
  receiver_->stop();
  timer_.disarm();
  read_watch_.stop();
  write_watch_.stop();
  linger_.start(std::move(fd_));
}

}  // namespace rnbd::fabric::iwarp
