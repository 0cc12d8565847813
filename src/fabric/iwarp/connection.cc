#include "fabric/iwarp/connection.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/assert.h"
#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {
namespace {

// Bytes of the items' local memory; an item longer than RDMAP can say has no size.
std::optional<std::uint64_t> size_of(const Work& work) {
  std::uint64_t bytes = 0;
  for (const iovec& piece : work.local) bytes += piece.iov_len;
  return bytes <= std::numeric_limits<std::uint32_t>::max() ? std::optional(bytes) : std::nullopt;
}

}  // namespace

IwarpConnection::IwarpConnection(Reactor& reactor, const Options& options, Random& random,
                                 const IwarpDomain& domain, const ConnectionOptions& depths,
                                 ConnectionHandler& handler)
    : reactor_(reactor),
      options_(options),
      depths_(depths),
      handler_(handler),
      keys_(domain, random, depths.windows),
      receives_(std::max<std::uint32_t>(depths.receive_depth, 1)),
      linger_(
          reactor, options, [](void* self) { static_cast<IwarpConnection*>(self)->ended(); }, this),
      timer_(Timer::of<&IwarpConnection::on_timeout>(reactor, this)) {}

IwarpConnection::~IwarpConnection() {
  RNBD_ASSERT(reactor_.on_this_thread());
  read_watch_.stop();
  write_watch_.stop();
  if (fd_) abort_socket(std::move(fd_));
}

std::error_code IwarpConnection::dial(const ConnectRequest& request) {
  auto started = Dial::start(reactor_, options_, request, *this);
  if (!started) return started.error();
  dial_ = std::move(*started);
  peer_ = request.address.destination;
  local_ = request.address.source;
  return {};
}

void IwarpConnection::on_dial_failed(std::error_code why) { end(why); }

void IwarpConnection::on_answered(UniqueFd fd, bool crc, const wire::MpaFrame& reply) {
  const std::unique_ptr<Dial> keep = std::move(dial_);  // `reply` lives in it
  if (reply.rejected) {
    handler_.on_rejected(reply.user_data);
    if (state_ == State::dialing) end(Errc::connect_rejected);
    return;
  }
  local_ = local_address_of(fd.get());
  peer_ = peer_address_of(fd.get());
  establish(std::move(fd), crc);
  read_watch_.start(reactor_, fd_.get(), POLLIN | POLLRDHUP);
  handler_.on_connected(reply.user_data);
}

void IwarpConnection::adopt(UniqueFd fd, bool crc, const Address& local, const Address& peer) {
  initiator_ = false;
  local_ = local;
  peer_ = peer;
  establish(std::move(fd), crc);
  reactor_.defer(announce_);
}

void IwarpConnection::announce() {
  read_watch_.start(reactor_, fd_.get(), POLLIN | POLLRDHUP);
  handler_.on_connected({});
}

void IwarpConnection::establish(UniqueFd fd, bool crc) {
  fd_ = std::move(fd);
  crc_ = crc;
  receiver_.emplace(keys_, receives_, static_cast<ReceiveSink&>(*this),
                    ReceiverOptions{.crc = crc,
                                    .verify_first = options_.crc == CrcPolicy::strict,
                                    .immediate_half = options_.immediate_half});
  TransmitterOptions out{
      .crc = crc, .immediate_half = options_.immediate_half, .depth = depths_.send_depth};
  const auto segment =
      options_.fpdu == FpduSize::mss ? segment_size_of(fd_.get(), peer_.family()) : std::nullopt;
  if (segment) {
    // A frame with its length field, header and CRC fills one segment, rounded down to words.
    const std::size_t frame = std::max<std::size_t>(*segment & ~std::size_t{3}, 128);
    out.tagged_payload_max =
        std::min(frame - sizeof(wire::TaggedHeader) - wire::kFpduCrcSize, kLargePayload);
    out.untagged_payload_max =
        std::min(frame - sizeof(wire::UntaggedHeader) - wire::kFpduCrcSize, kLargePayload);
  }
  transmitter_.emplace(out);
  state_ = State::open;
}

std::error_code IwarpConnection::post(std::span<const Work> batch) {
  if (state_ != State::open) return from_errno(ENOTCONN);
  for (const Work& work : batch) {
    if (work.op == Work::Op::send_imm) return from_errno(EOPNOTSUPP);
    if (!size_of(work)) return from_errno(EMSGSIZE);
  }
  if (!transmitter_->fits(batch.size())) return from_errno(ENOBUFS);
  for (const Work& work : batch) transmitter_->push(work);
  if (transmitter_->full_batch_waits()) transmit();
  reactor_.defer(flush_);
  return {};
}

std::error_code IwarpConnection::post_receive(std::span<std::byte> buffer, std::uint64_t cookie) {
  if (state_ != State::dialing && state_ != State::open) return from_errno(ENOTCONN);
  if (receives_.full()) return from_errno(ENOBUFS);
  receives_.push({buffer, cookie});
  if (receiver_ && receiver_->status() == Receiver::Status::blocked) {
    timer_.disarm();
    reactor_.defer(read_);
  }
  return {};
}

Result<RemoteSpan> IwarpConnection::expose(std::uint32_t window, std::span<const iovec> local) {
  if (state_ != State::dialing && state_ != State::open) return fail_errno(ENOTCONN);
  return keys_.expose(window, local);
}

void IwarpConnection::hide(std::uint32_t window) { keys_.hide(window); }

void IwarpConnection::forget(std::uint32_t window) { keys_.forget(window); }

void IwarpConnection::close(std::error_code why, bool graceful) {
  if (state_ == State::ended || state_ == State::closed) return;
  if (!graceful || state_ == State::dialing) return end(why);
  if (state_ != State::open) return;
  state_ = State::draining;
  why_ = why;
  graceful_ = true;
  receiver_->stop();
  announce_.unlink();
  timer_.arm_after(options_.drain_timeout);
  reactor_.defer(flush_);
}

void IwarpConnection::end(std::error_code why) {
  if (state_ == State::ended || state_ == State::closed) return;
  if (!why_) why_ = why;
  if (receiver_) receiver_->stop();
  dial_.reset();
  linger_.abort();
  read_watch_.stop();
  write_watch_.stop();
  if (fd_) abort_socket(std::move(fd_));
  ended();
}

// Nothing is connected any more; what is left is to say so.
void IwarpConnection::ended() {
  state_ = State::ended;
  timer_.disarm();
  announce_.unlink();
  flush_.unlink();
  read_.unlink();
  reactor_.defer(hand_back_);
}

void IwarpConnection::hand_back() {
  state_ = State::closed;
  if (transmitter_) {
    while (const auto cookie = transmitter_->pop_done()) handler_.on_done(*cookie, {});
    while (const auto cookie = transmitter_->pop_any()) handler_.on_done(*cookie, Errc::flushed);
  }
  while (!receives_.empty()) {
    ReceiveEvent event{};
    event.kind = ReceiveEvent::Kind::flushed;
    event.cookie = receives_.pop().cookie;
    handler_.on_receive(event);
  }
  handler_.on_closed(*why_);  // may destroy this
}

}  // namespace rnbd::fabric::iwarp
