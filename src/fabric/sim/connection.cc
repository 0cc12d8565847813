#include "fabric/sim/connection.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/mutation.h"
#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

SimConnection::SimConnection(SimFabric& fabric, SimDomain& domain, const ConnectionOptions& options,
                             ConnectionHandler& handler, std::shared_ptr<Pipe> pipe, int side)
    : fabric_(fabric),
      world_(fabric.world()),
      domain_(domain),
      options_(options),
      handler_(handler),
      pipe_(std::move(pipe)),
      side_(side),
      addresses_{pipe_->address(side), pipe_->address(1 - side)},
      windows_(world_, options.windows),
      silent_(side == 1 && world_.chance(2)),
      late_completions_(world_.chance(2)),
      lingers_(world_.chance(2)) {
  RNBD_ASSERT(&domain.host() == &fabric.host());
  for (Event* event : {&transmit_, &done_, &ready_, &break_, &timeout_, &closed_}) {
    event->set_place(&fabric.sim_loop(), pipe_->id());
  }
  domain_.connection_opened();
  fabric_.host().connections_.push_back(this);
  pipe_->attach(side_, *this);
}

SimConnection::~SimConnection() { RNBD_ASSERT(state_ == State::closed); }

SimLoop& SimConnection::sim_loop() { return fabric_.sim_loop(); }

void SimConnection::start_connecting(std::span<const std::byte> private_data, Duration timeout,
                                     Duration delay) {
  world_.schedule(timeout_, world_.now() + timeout);
  Message& message = pipe_->prepare(side_, Message::Kind::connect);
  message.payload.assign(private_data.begin(), private_data.end());
  pipe_->launch(side_, delay);
}

void SimConnection::start_accepted(std::span<const std::byte> private_data) {
  state_ = State::accepted;
  if (pipe_->given_up()) {
    return break_at(world_.now() + world_.some(world_.options().close_delay),
                    from_errno(ECONNRESET));
  }
  Message& message = pipe_->prepare(side_, Message::Kind::accepted);
  message.payload.assign(private_data.begin(), private_data.end());
  pipe_->launch(side_);
  world_.schedule(ready_, world_.now() + world_.some(world_.options().latency.jitter));
}

std::error_code SimConnection::post(std::span<const Work> batch) {
  RNBD_ASSERT(sim_loop().on_this_thread());
  if (!running()) return from_errno(ENOTCONN);
  if (items_.size() + dones_.size() + batch.size() > options_.send_depth)
    return from_errno(ENOBUFS);
  for (const Work& work : batch) {
    if (work.op == Work::Op::send_imm && !fabric_.capabilities().send_imm)
      return from_errno(EOPNOTSUPP);
  }
  for (const Work& work : batch) {
    Item& item = items_.push();
    item.work = work;
    item.local.assign(work.local.begin(), work.local.end());
    item.length = 0;
    item.memory = nullptr;
    for (const iovec& part : work.local) item.length += part.iov_len;
    if (world_.options().check_posted_bytes) item.sample = sample(item);
  }
  if (!transmit_.scheduled()) schedule_transmit();
  return {};
}

std::error_code SimConnection::post_receive(std::span<std::byte> buffer, std::uint64_t cookie) {
  RNBD_ASSERT(sim_loop().on_this_thread());
  if (state_ == State::draining || state_ == State::closing || state_ == State::closed)
    return from_errno(ENOTCONN);
  if (receives_.size() >= options_.receive_depth) return from_errno(ENOBUFS);
  receives_.push() = {buffer, cookie};
  if (state_ != State::open || receives_.size() > 1 || pipe_ == nullptr) return {};
  timeout_.cancel();  // a message may have waited for this
  pipe_->resume(side_);
  return {};
}

Result<RemoteSpan> SimConnection::expose(std::uint32_t window, std::span<const iovec> local) {
  RNBD_ASSERT(sim_loop().on_this_thread());
  RNBD_ASSERT(window < windows_.count());
  RNBD_ASSERT(!windows_.exposed(window));
  if (state_ == State::closing || state_ == State::closed) return fail_errno(ENOTCONN);
  return windows_.expose(window, local);
}

void SimConnection::hide(std::uint32_t window) {
  RNBD_ASSERT(window < windows_.count());
  windows_.hide(window);
}

void SimConnection::forget(std::uint32_t window) {
  RNBD_ASSERT(sim_loop().on_this_thread());
  RNBD_ASSERT(windows_.exposed(window));
  windows_.forget(window);
}

Result<RemoteSpan> SimConnection::open_gate(Memory& memory, std::size_t chunk,
                                            std::uint64_t cookie) {
  auto& chunks = static_cast<SimMemory&>(memory);
  const std::uint32_t key = chunks.fresh_gate_key();
  if (const auto error = move_gate(chunks, chunk, key, cookie)) return fail(error);
  return chunks.gate(chunk, key);
}

std::error_code SimConnection::shut_gate(Memory& memory, std::size_t chunk, std::uint64_t cookie) {
  return move_gate(static_cast<SimMemory&>(memory), chunk, 0, cookie);
}

std::error_code SimConnection::move_gate(SimMemory& memory, std::size_t chunk, std::uint32_t key,
                                         std::uint64_t cookie) {
  RNBD_ASSERT(sim_loop().on_this_thread());
  if (!domain_.capabilities().keyed_gates) return from_errno(EOPNOTSUPP);
  if (!running()) return from_errno(ENOTCONN);
  if (items_.size() + dones_.size() + 1 > options_.send_depth) return from_errno(ENOBUFS);
  Item& item = items_.push();
  item.work = {.cookie = cookie};
  item.local.clear();
  item.length = 0;
  item.sample = sample(item);
  item.memory = &memory;
  item.chunk = chunk;
  item.gate_key = key;
  if (!transmit_.scheduled()) schedule_transmit();
  return {};
}

void SimConnection::close(std::error_code why, bool graceful) {
  RNBD_ASSERT(sim_loop().on_this_thread());
  if (state_ == State::draining || state_ == State::closing || state_ == State::closed) return;
  if (!graceful || state_ != State::open) return begin_close(why, from_errno(ECONNRESET));
  if (items_.empty()) return begin_close(why, Errc::peer_closed);
  why_ = why;
  state_ = State::draining;
  world_.schedule(timeout_, world_.now() + world_.options().graceful_limit);
}

void SimConnection::begin_close(std::error_code why, std::error_code tell) {
  if (state_ == State::closing || state_ == State::closed) return;
  why_ = why;
  tell_peer_ = tell;
  state_ = State::closing;
  timeout_.cancel();
  ready_.cancel();
  break_.cancel();
  done_.cancel();
  if (broken(Rule::r13)) leave_sender_behind();
  if (!lingers_) transmit_.cancel();
  // From the loop, even without a delay: close() calls nobody.
  world_.schedule(closed_, world_.now() + world_.some(world_.options().close_delay));
}

void SimConnection::on_closed_due() {
  transmit_.cancel();
  if (pipe_ != nullptr) {
    pipe_->detach(side_);
    if (tell_peer_) pipe_->finish(side_, tell_peer_);
    pipe_.reset();
  }
  flush();
  state_ = State::closed;
  std::erase(fabric_.host().connections_, this);
  domain_.connection_closed();
  handler_.on_closed(why_);  // may destroy this
}

void SimConnection::flush() {
  for (; !dones_.empty(); dones_.pop()) {
    if (const auto cookie = dones_.front().cookie) handler_.on_done(cookie, Errc::flushed);
  }
  for (; !items_.empty(); items_.pop()) {
    check_unchanged(items_.front());
    if (const auto cookie = items_.front().work.cookie) handler_.on_done(cookie, Errc::flushed);
  }
  for (; !receives_.empty(); receives_.pop()) {
    ReceiveEvent event;
    event.kind = ReceiveEvent::Kind::flushed;
    event.cookie = receives_.front().cookie;
    handler_.on_receive(event);
  }
}

void SimConnection::break_at(TimePoint time, std::error_code why) {
  if (state_ == State::closing || state_ == State::closed) {
    tell_peer_ = {};
    return;
  }
  break_why_ = why;
  acknowledged_no_more_ = true;
  if (late_completions_) done_.cancel();
  if (!break_.scheduled()) world_.schedule(break_, time);
}

void SimConnection::on_break() { begin_close(break_why_, {}); }

void SimConnection::lose_power(Host::Death death) {
  if (pipe_ == nullptr) return;
  const auto pipe = std::move(pipe_);
  if (death == Host::Death::closed) {
    pipe->detach(side_);
    pipe->finish(side_, from_errno(ECONNRESET));
  } else {
    pipe->abandon(side_);
  }
  if (death == Host::Death::noticed) pipe->sever(world_.now(), from_errno(ECONNRESET));
  break_at(world_.now(), from_errno(ENETDOWN));
}

void SimConnection::on_timeout() {
  switch (state_) {
    case State::connecting:
      return begin_close(Errc::handshake_timeout, from_errno(ECONNRESET));
    case State::open:
      return begin_close(Errc::receive_queue_empty, Errc::peer_terminated);
    case State::draining:
      return begin_close(why_, from_errno(ECONNRESET));
    default:
      return;
  }
}

void SimConnection::on_ready() {
  state_ = State::open;
  if (pipe_ != nullptr) pipe_->resume(side_);
  handler_.on_connected({});
}

}  // namespace rnbd::fabric::sim
