#include "frontend/nbd/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace rnbd::nbd {
namespace {

constexpr std::size_t kHeaderBytes = sizeof(wire::layout::NbdRequest);
constexpr std::uint32_t kInput = POLLIN | POLLRDHUP;
// From this much missing payload on, only the next header is taken along with it, so that a stream
// of large writes is received in place.
constexpr std::size_t kReceiveInPlace = 16 * 1024;
constexpr int kReceivesPerRound = 16;  // then others have their turn
constexpr int kSocketBuffer = 4 << 20;

void enlarge_send_buffer(int socket) {
  const int bytes = kSocketBuffer;
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) == 0) return;
  ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);  // as far as allowed
}

block::SplitRequest::What translate(const Slot& slot) {
  const wire::NbdRequest& request = slot.request;
  block::SplitRequest::What what{
      .offset = request.offset, .length = request.length, .data = slot.data};
  switch (request.command) {
    case wire::NbdCommand::write:
      what.op = block::Op::write;
      break;
    case wire::NbdCommand::trim:
      what.op = block::Op::discard;
      break;
    case wire::NbdCommand::write_zeroes:
      what.op = block::Op::write_zeroes;
      break;
    case wire::NbdCommand::flush:
      what.op = block::Op::flush;
      what.offset = what.length = 0;
      break;
    default:
      what.op = block::Op::read;
      break;
  }
  unsigned flags = block::kNoFlags;
  if ((request.flags & wire::kNbdCommandFua) != 0 && block::modifies(what.op)) flags |= block::kFua;
  if ((request.flags & wire::kNbdCommandNoHole) != 0) flags |= block::kNoUnmap;
  what.flags = static_cast<std::uint8_t>(flags);
  return what;
}

}  // namespace

Result<std::unique_ptr<Connection>> Connection::create(Reactor& reactor, ConnectionSetup setup,
                                                       ConnectionHandler& handler) {
  RNBD_ASSERT(setup.received.size() <= kStagingBytes);
  auto arena = PayloadArena::create(setup.payload_bytes_max);
  if (!arena) return fail(arena.error());
  auto queue = setup.device->open_queue(reactor);
  if (!queue) return fail(queue.error());
  return std::unique_ptr<Connection>(
      new Connection(reactor, std::move(setup), handler, std::move(*queue), std::move(*arena)));
}

Connection::Connection(Reactor& reactor, ConnectionSetup setup, ConnectionHandler& handler,
                       std::unique_ptr<block::Queue> queue, PayloadArena arena)
    : reactor_(reactor),
      setup_(std::move(setup)),
      handler_(handler),
      queue_(std::move(queue)),
      arena_(std::move(arena)),
      staging_(kStagingBytes),
      slots_(new Slot[setup_.inflight_max]),
      replies_(setup_.inflight_max) {
  for (std::uint32_t i = 0; i < setup_.inflight_max; ++i) {
    slots_[i].connection = this;
    slots_[i].io.slot = &slots_[i];
    free_.push_back(slots_[i]);
  }
}

void Connection::start() {
  enlarge_send_buffer(setup_.socket.get());
  staging_.append(setup_.received);
  setup_.received = {};
  watch_.start(reactor_, setup_.socket.get(), kInput);
  reactor_.defer(receive_task_);
}

void Connection::on_ready(std::uint32_t events) {
  if ((events & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0) hangup_ = true;
  if ((events & (POLLOUT | POLLERR | POLLHUP)) != 0 && want_output_) flush();
  receive();
}

// ---- Requests in ----

void Connection::receive() {
  for (int round = 0; round < kReceivesPerRound; ++round) {
    bool more = false;
    if (!parse() || !receive_once(more)) return;
    if (!more) {
      parse();
      return;
    }
  }
  reactor_.defer(receive_task_);
}

// False: nothing came, or the stream has ended. `more`: there may be more at once.
bool Connection::receive_once(bool& more) {
  std::array<iovec, 2> parts{};
  std::size_t count = 0;
  std::size_t missing = 0;
  std::span<std::byte> room = staging_.room();
  if (filling_ != nullptr) {
    missing = filling_->request.length - filled_;
    parts[count++] = {filling_->data + filled_, missing};
    if (missing >= kReceiveInPlace) room = room.first(kHeaderBytes);
  }
  parts[count++] = {room.data(), room.size()};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = count;
  ssize_t got = 0;
  do {
    got = ::recvmsg(setup_.socket.get(), &message, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK) die();
    return false;
  }
  if (got == 0) {
    drain();
    return false;
  }
  const auto bytes = static_cast<std::size_t>(got);
  const std::size_t in_place = std::min(bytes, missing);
  filled_ += static_cast<std::uint32_t>(in_place);
  staging_.filled(bytes - in_place);
  more = hangup_ || bytes == missing + room.size();
  return true;
}

// Takes requests out of what was received. False: stop receiving, since there is no room for the
// next one or the connection ends; true: all is used up.
bool Connection::parse() {
  blocked_ = false;
  while (state_ == State::open) {
    if (filling_ != nullptr) {
      fill();
      if (filling_ != nullptr) return true;
      continue;
    }
    const wire::ByteView bytes = staging_.view();
    if (skip_ > 0) {
      const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(skip_, bytes.size()));
      staging_.consume(skipped);
      skip_ -= skipped;
      if (skip_ > 0) return true;
      continue;
    }
    if (bytes.size() < kHeaderBytes) return true;
    const auto request = wire::parse_nbd_request(bytes.first(kHeaderBytes));
    if (!request) {
      die();
      return false;
    }
    if (!begin(*request)) {
      blocked_ = true;
      return false;
    }
    staging_.consume(kHeaderBytes);
  }
  return false;
}

// Moves payload that arrived with other requests to where it belongs; submits a write that is
// complete.
void Connection::fill() {
  Slot& slot = *filling_;
  const wire::ByteView bytes = staging_.view();
  const std::size_t count = std::min<std::size_t>(slot.request.length - filled_, bytes.size());
  if (count > 0) {
    std::memcpy(slot.data + filled_, bytes.data(), count);
    staging_.consume(count);
    filled_ += static_cast<std::uint32_t>(count);
  }
  if (filled_ < slot.request.length) return;
  filling_ = nullptr;
  submit(slot);
}

// False: there is no slot or no memory for it now.
bool Connection::begin(const wire::NbdRequest& request) {
  if (request.command == wire::NbdCommand::disconnect) {
    drain();
    return true;
  }
  if (free_.empty()) return false;
  const std::error_code error = wire::check_nbd_request(request, setup_.geometry);
  const bool write = request.command == wire::NbdCommand::write;
  const bool flush = request.command == wire::NbdCommand::flush;
  const bool payload =
      (write || request.command == wire::NbdCommand::read) && request.length > 0 && !error;
  std::byte* data = payload ? arena_.allocate(request.length) : nullptr;
  if (payload && data == nullptr) return false;

  Slot& slot = free_.pop_front();
  slot.request = request;
  slot.data = data;
  if (error || (request.length == 0 && !flush)) {
    if (write) skip_ = request.length;
    complete(slot, error);
  } else if (write) {
    filling_ = &slot;
    filled_ = 0;
  } else {
    submit(slot);
  }
  return true;
}

void Connection::submit(Slot& slot) {
  ++submitted_;
  slot.io.start(*queue_, setup_.limits, translate(slot), &Connection::on_io_done);
}

// ---- Replies out ----

void Connection::on_io_done(block::SplitRequest& io) {
  Slot& slot = *static_cast<Slot::Io&>(io).slot;
  Connection& connection = *slot.connection;
  RNBD_ASSERT(connection.submitted_ > 0);
  --connection.submitted_;
  connection.complete(slot, io.result());
}

void Connection::complete(Slot& slot, const std::error_code& result) {
  if (state_ == State::dead) {
    release(slot);
    return maybe_finish();
  }
  encode_reply(slot, result, setup_.structured);
  replies_.push(slot);
  if (!want_output_) reactor_.defer(flush_task_);
}

void Connection::flush() {
  if (state_ == State::dead || state_ == State::closed) return;
  switch (replies_.send(setup_.socket.get(), [this](Slot& slot) { release(slot); })) {
    case ReplyQueue::Sent::all:
      want_output(false);
      break;
    case ReplyQueue::Sent::blocked:
      want_output(true);
      break;
    case ReplyQueue::Sent::failed:
      return die();
  }
  maybe_finish();
}

void Connection::want_output(bool wanted) {
  if (want_output_ == wanted) return;
  want_output_ = wanted;
  const std::uint32_t events = (state_ == State::open ? kInput : 0U) | (wanted ? POLLOUT : 0U);
  if (events != 0) {
    watch_.start(reactor_, setup_.socket.get(), events);
  } else {
    watch_.stop();
  }
}

void Connection::release(Slot& slot) {
  if (slot.data != nullptr) arena_.release(slot.data);
  slot.data = nullptr;
  free_.push_front(slot);
  if (blocked_ && state_ == State::open) reactor_.defer(receive_task_);
}

// ---- The end ----

void Connection::close() {
  if (state_ == State::open || state_ == State::draining) die();
}

void Connection::drain() {
  state_ = State::draining;
  watch_.stop();
  if (want_output_) watch_.start(reactor_, setup_.socket.get(), POLLOUT);
  if (filling_ != nullptr) release(*filling_);
  filling_ = nullptr;
  maybe_finish();
}

void Connection::die() {
  state_ = State::dead;
  watch_.stop();
  ::shutdown(setup_.socket.get(), SHUT_RDWR);
  setup_.socket.reset();
  if (filling_ != nullptr) release(*filling_);
  filling_ = nullptr;
  replies_.drop([this](Slot& slot) { release(slot); });
  maybe_finish();
}

void Connection::maybe_finish() {
  if (state_ == State::open || state_ == State::closed || submitted_ > 0) return;
  if (state_ == State::draining && !replies_.empty()) return;
  state_ = State::closed;
  watch_.stop();
  reactor_.defer(closed_task_);
}

}  // namespace rnbd::nbd
