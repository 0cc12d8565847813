// What a connection does with bytes: reads them where they were posted when they leave, and places
// them, checked, where they arrive.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fabric/sim/connection.h"
#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {
namespace {

bool is_write(Work::Op op) { return op == Work::Op::write || op == Work::Op::write_imm; }
bool has_immediate(Work::Op op) { return op == Work::Op::write_imm || op == Work::Op::send_imm; }

std::uint64_t sample_bytes(const iovec& part, std::uint64_t hash) {
  const auto* bytes = static_cast<const std::byte*>(part.iov_base);
  const auto add = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i)
      hash = (hash ^ std::to_integer<std::uint64_t>(bytes[i])) * 0x100000001b3;
  };
  constexpr std::size_t kEnd = 16;  // bytes looked at on both sides; between them one per page
  if (part.iov_len <= 2 * kEnd) {
    add(0, part.iov_len);
    return hash;
  }
  add(0, kEnd);
  for (std::size_t i = 512; i + kEnd < part.iov_len; i += 4096) add(i, i + 1);
  add(part.iov_len - kEnd, part.iov_len);
  return hash;
}

}  // namespace

std::uint64_t SimConnection::sample(const Item& item) const {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const iovec& part : item.local) hash = sample_bytes(part, hash);
  return hash;
}

void SimConnection::check_unchanged(const Item& item) const {
  if (world_.options().check_posted_bytes && item.sample != sample(item))
    world_.violated("I5: bytes were changed while they were posted");
}

// What a fabric does that reports its end before its sender is dead (safety rule R13): the bytes
// are read when they belong to somebody else already.
void SimConnection::leave_sender_behind() {
  for (; !items_.empty(); items_.pop()) {
    Item item = items_.front();
    if (item.local.size() < 2) continue;  // no data of a submitter
    item.local.pop_back();
    item.sample = sample(item);
    world_.after(world_.some(std::chrono::milliseconds(2)), [this_world = &world_, item] {
      std::uint64_t hash = 0xcbf29ce484222325;
      for (const iovec& part : item.local) hash = sample_bytes(part, hash);
      if (hash != item.sample) this_world->violated("I5: sent after its connection was closed");
    });
  }
}

void SimConnection::schedule_transmit() {
  if (silent_) return;
  const auto rate = world_.options().latency.bytes_per_microsecond;
  const auto nanoseconds = 200 + items_.front().length * 1000 / rate;
  sender_free_ =
      std::max(sender_free_, world_.now()) + Duration(static_cast<Duration::rep>(nanoseconds));
  world_.schedule(transmit_, sender_free_);
}

void SimConnection::on_transmit() {
  if (items_.empty() || pipe_ == nullptr || pipe_->congested(side_)) return;  // on_room() goes on
  transmit(items_.front());
  items_.pop();
  if (!items_.empty()) return schedule_transmit();
  if (state_ == State::draining) begin_close(why_, Errc::peer_closed);
}

void SimConnection::on_room() {
  if (!items_.empty() && !transmit_.scheduled() && (state_ != State::closing || lingers_))
    schedule_transmit();
}

void SimConnection::transmit(Item& item) {
  // Whoever posted these bytes left them alone until now, as the contract says.
  check_unchanged(item);
  if (item.memory != nullptr) {
    item.memory->set_gate_key(item.chunk, item.gate_key);
    return finish_item(item);
  }
  Message& message = pipe_->prepare(side_, Message::Kind::work);
  message.op = item.work.op;
  message.remote = item.work.remote;
  message.immediate = item.work.immediate;
  message.invalidate_key = item.work.invalidate_key;
  message.payload.resize(item.length);
  std::byte* to = message.payload.data();
  for (const iovec& part : item.local) {
    if (part.iov_len != 0) std::memcpy(to, part.iov_base, part.iov_len);
    to += part.iov_len;
  }
  pipe_->launch(side_);
  finish_item(item);
}

void SimConnection::finish_item(Item& item) {
  TimePoint due = world_.now();
  if (late_completions_)
    due += 2 * (world_.options().latency.base + world_.some(world_.options().latency.jitter));
  if (pipe_->link() != nullptr) due = std::max(due, pipe_->link()->stalled_until_);
  last_done_ = std::max(last_done_, due);
  Done& done = dones_.push();
  done.cookie = item.work.cookie;
  done.due = last_done_;
  std::swap(done.item, item);
  const bool comes = state_ != State::closing && !(acknowledged_no_more_ && late_completions_);
  if (comes && !done_.scheduled()) world_.schedule(done_, dones_.front().due);
}

void SimConnection::on_done_due() {
  while (!dones_.empty() && dones_.front().due <= world_.now()) {
    if (state_ != State::open && state_ != State::draining)
      return;  // closed by a handler: flushed later
    const std::uint64_t cookie = dones_.front().cookie;
    // A server's memory is the peer's to write again once it has its answer.
    if (side_ == 0) check_unchanged(dones_.front().item);
    dones_.pop();
    if (cookie != 0) handler_.on_done(cookie, {});
  }
  if (!dones_.empty()) world_.schedule(done_, dones_.front().due);
}

bool SimConnection::deliver(Message& message) {
  switch (message.kind) {
    case Message::Kind::connect:
      return true;  // never to an end
    case Message::Kind::accepted:
      if (state_ != State::connecting) return true;
      timeout_.cancel();
      state_ = State::open;
      handler_.on_connected(message.payload);
      return true;
    case Message::Kind::rejected:
      if (state_ != State::connecting) return true;
      begin_close(Errc::connect_rejected, {});
      handler_.on_rejected(message.payload);
      return true;
    case Message::Kind::finish:
      if (state_ == State::closing) tell_peer_ = {};
      begin_close(message.why, {});
      return true;
    case Message::Kind::work:
      break;
  }
  if (state_ == State::accepted) return false;
  if (state_ == State::open) return deliver_work(message);
  if (lingers_) place_part(message);
  return true;
}

void SimConnection::place_part(const Message& message) {
  if (message.kind != Message::Kind::work || !is_write(message.op) || message.placed ||
      message.payload.empty())
    return;
  if (windows_.write(message.remote.key, message.remote.address, message.payload)) return;
  SimMemory* memory = domain_.find(message.remote.key);
  if (memory == nullptr) return;
  std::byte* target =
      memory->writable(message.remote.key, message.remote.address, message.payload.size());
  if (target != nullptr) std::memcpy(target, message.payload.data(), message.payload.size());
}

bool SimConnection::place(Message& message) {
  if (message.payload.empty()) return true;
  message.placed = true;
  if (SimMemory* memory = domain_.find(message.remote.key)) {
    std::byte* target =
        memory->writable(message.remote.key, message.remote.address, message.payload.size());
    if (target == nullptr) return false;
    std::memcpy(target, message.payload.data(), message.payload.size());
    return true;
  }
  return windows_.write(message.remote.key, message.remote.address, message.payload);
}

bool SimConnection::deliver_work(Message& message) {
  if (std::exchange(silent_, false)) on_room();
  if (is_write(message.op) && !message.placed && !place(message)) {
    fault(Errc::remote_access);
    return true;
  }
  if (message.op == Work::Op::write) return true;
  if (receives_.empty()) {
    world_.schedule(timeout_, world_.now() + world_.options().receive_grace);
    return false;
  }
  if (!is_write(message.op) && message.payload.size() > receives_.front().buffer.size()) {
    fault(Errc::protocol_violation);
    return true;
  }
  if (message.op == Work::Op::send_invalidate) {
    const bool may = fabric_.capabilities().remote_invalidate;
    if (!may || !windows_.invalidate(message.invalidate_key)) {
      fault(Errc::remote_access);
      return true;
    }
  }
  deliver_message(message);
  return true;
}

void SimConnection::deliver_message(Message& message) {
  const Receive receive = receives_.front();
  receives_.pop();
  ReceiveEvent event;
  event.cookie = receive.cookie;
  if (is_write(message.op)) {
    event.kind = ReceiveEvent::Kind::immediate;
  } else {
    event.kind = has_immediate(message.op) ? ReceiveEvent::Kind::send_with_immediate
                                           : ReceiveEvent::Kind::send;
    event.bytes = receive.buffer.first(message.payload.size());
    if (!message.payload.empty())
      std::memcpy(event.bytes.data(), message.payload.data(), message.payload.size());
  }
  if (has_immediate(message.op)) event.immediate = message.immediate;
  if (message.op == Work::Op::send_invalidate) event.invalidated_key = message.invalidate_key;
  handler_.on_receive(event);
}

void SimConnection::fault(std::error_code why) { begin_close(why, Errc::peer_terminated); }

}  // namespace rnbd::fabric::sim
