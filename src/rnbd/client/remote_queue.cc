#include "rnbd/client/remote_queue.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

#include "base/mutation.h"
#include "rnbd/client/slice.h"

namespace rnbd::client {

using block::Op;
using Gate = LaneDevice::Gate;

// How far a request is. While it is in a list more messages of its step are to be sent; when it is
// in none and no message is out, the step is over.
struct RemoteQueue::Progress {
  TimePoint submitted;
  TimePoint posted{};          // its first message; the epoch when none was sent
  std::uint64_t position = 0;  // bytes of the main step sent
  SliceCursor cursor{};        // the same place in its segments
  std::uint32_t messages = 0;  // out
  Step step = Step::main;
  bool repeat = false;  // a message's fate is unknown: do the step again
};

RemoteQueue::Progress& RemoteQueue::progress(block::Request& request) {
  static_assert(sizeof(Progress) <= sizeof(request.driver) &&
                alignof(Progress) <= alignof(std::uint64_t));
  return *std::launder(reinterpret_cast<Progress*>(request.driver));
}

namespace {

// The request was not carried out, or nobody knows whether it was: it must be sent again, elsewhere
// or later.
bool fate_unknown(const std::error_code& error) {
  return error == Errc::path_lost || error == Errc::session_closed || error == from_errno(ENOTCONN);
}

bool asks_for_fua(const block::Request& request) { return (request.flags & block::kFua) != 0; }

// Can the server make this operation stable by itself?
bool server_fua(const block::Request& request, const WireLimits& limits) {
  return limits.fua && (request.op == Op::write || request.op == Op::write_zeroes);
}

std::uint32_t wire_flags(const block::Request& request, const WireLimits& limits) {
  std::uint32_t flags = 0;
  if (request.op == Op::read || (request.flags & block::kSync) != 0) flags |= wire::kIoSync;
  if (asks_for_fua(request) && server_fua(request, limits)) flags |= wire::kIoFua | wire::kIoSync;
  if ((request.flags & block::kNoUnmap) != 0 && request.op == Op::write_zeroes)
    flags |= wire::kIoNoUnmap;
  return flags;
}

wire::IoOp wire_op(Op op) {
  switch (op) {
    case Op::read:
      return wire::IoOp::read;
    case Op::write:
      return wire::IoOp::write;
    case Op::flush:
      return wire::IoOp::flush;
    case Op::discard:
      return wire::IoOp::discard;
    case Op::secure_erase:
      return wire::IoOp::secure_erase;
    case Op::write_zeroes:
      return wire::IoOp::write_zeroes;
  }
  return wire::IoOp::read;
}

}  // namespace

// ---- the gate ----

void LaneDevice::move_to(Gate next) {
  if (gate != Gate::open && next == Gate::open) lane->device_opened();
  if (gate == Gate::open && next != Gate::open) lane->device_shut();
  gate = next;
}

void LaneDevice::open(std::uint32_t new_generation, std::uint32_t id,
                      const VolumeLimits& new_limits) {
  RNBD_ASSERT(gate != Gate::failed);
  move_to(Gate::open);
  generation = new_generation;
  device_id = id;
  unknown = false;
  limits = new_limits;
  for (RemoteQueue* queue : queues) queue->gate_changed();
}

void LaneDevice::resized(std::uint32_t of_generation, const VolumeLimits& new_limits) {
  if (generation == of_generation) limits = new_limits;
}

void LaneDevice::shut() {
  if (gate == Gate::open) move_to(Gate::shut);
}

void LaneDevice::fail() {
  move_to(Gate::failed);
  lane->each_under_way([this](IoContext& context) {
    if (!context.queue->serves(*this)) return;
    ++out;
    lane->message_out();
    lane->give_up(context, [self = shared_from_this()] { self->message_back(); });
  });
  const auto all = queues;  // a completion may destroy its queue
  for (RemoteQueue* queue : all) {
    if (std::find(queues.begin(), queues.end(), queue) != queues.end()) queue->gate_changed();
  }
}

bool LaneDevice::waits_since(TimePoint then) {
  bool found =
      std::ranges::any_of(queues, [then](auto* queue) { return queue->waits_since(then); });
  lane->each_under_way([&](const IoContext& context) {
    if (!context.queue->serves(*this)) return;
    const bool sent = context.posted != TimePoint{};
    found |= sent ? context.posted < then : RemoteQueue::unsent_since(*context.parent, then);
  });
  return found;
}

void LaneDevice::revive() {
  RNBD_ASSERT(out == 0);
  if (gate == Gate::failed) move_to(Gate::shut);
}

void LaneDevice::when_dry(std::function<void()> call) {
  if (out == 0) return call();
  dry.push_back(std::move(call));
}

void LaneDevice::message_back() {
  lane->message_back();
  if (--out != 0 || dry.empty()) return;
  for (const auto& call : std::exchange(dry, {})) call();
}

RemoteQueue::RemoteQueue(LaneDevice& device) : device_(device), lane_(*device.lane) {
  device_.queues.push_back(this);
}

RemoteQueue::~RemoteQueue() {
  RNBD_ASSERT(again_.empty() && waiting_.empty() && finished_.empty());
  std::erase(device_.queues, this);
}

bool RemoteQueue::has_work() const {
  return device_.gate == Gate::open && !(again_.empty() && waiting_.empty());
}

void RemoteQueue::gate_changed() {
  if (device_.gate == Gate::open) {
    if (has_work()) lane_.ready(*this);
    return;
  }
  IntrusiveList<block::Request> stopped;
  stopped.splice_back(again_);
  stopped.splice_back(waiting_);
  while (!stopped.empty()) {  // what has messages out is completed when they are back
    block::Request& request = stopped.pop_front();
    if (!request.result) request.result = make_error_code(Errc::device_failed);
    if (progress(request).messages == 0) complete_later(request, request.result);
  }
}

bool RemoteQueue::unsent_since(block::Request& request, TimePoint then) {
  const Progress& at = progress(request);
  return at.posted == TimePoint{} && at.submitted < then;
}

bool RemoteQueue::waits_since(TimePoint then) {
  bool found = false;
  waiting_.for_each([&](block::Request& each) { found |= unsent_since(each, then); });
  return found;
}

// ---- submission ----

void RemoteQueue::submit(block::Request& request) {
  new (request.driver) Progress{.submitted = lane_.loop().now()};
  request.result.clear();
  device_.counters.inflight.add();
  if (device_.gate == Gate::failed)
    return complete_later(request, make_error_code(Errc::device_failed));
  if (const std::error_code error = block::check(request, device_.limits.shown))
    return complete_later(request, error);
  start_step(request, first_step(request));
  if (progress(request).step == Step::end) return complete_later(request, {});
  waiting_.push_back(request);
  if (device_.gate == Gate::open) lane_.ready(*this);
}

// A request of no bytes is at most a flush: an empty write asking for stable storage.
RemoteQueue::Step RemoteQueue::first_step(const block::Request& request) const {
  if (request.op == Op::flush) return Step::main;
  const bool empty = request.length == 0;
  if (empty && request.op == Op::write && (request.flags & (block::kFua | block::kPreflush)) != 0)
    return Step::postflush;
  if (empty) return Step::end;
  return (request.flags & block::kPreflush) != 0 ? Step::preflush : Step::main;
}

RemoteQueue::Step RemoteQueue::next_step(const block::Request& request, Step step) const {
  if (step == Step::preflush) return Step::main;
  if (step == Step::postflush || request.op == Op::flush || request.op == Op::read)
    return Step::end;
  const WireLimits& limits = device_.limits.wire;
  const bool by_hand = asks_for_fua(request) && limits.cache && !server_fua(request, limits);
  return by_hand ? Step::postflush : Step::end;
}

void RemoteQueue::start_step(block::Request& request, Step step) {
  Progress& at = progress(request);
  at.position = 0;
  at.cursor = {};
  at.step = step;
  at.repeat = false;
}

// ---- sending ----

bool RemoteQueue::send_next(IoContext& context) {
  if (!has_work()) return false;  // the gate was shut while we were waiting for our turn
  block::Request& request = again_.empty() ? waiting_.front() : again_.front();
  if (device_.flushes->failed() && hardens(request)) return refuse(request, from_errno(EIO)), false;
  const bool flush = progress(request).step != Step::main || request.op == Op::flush;
  return flush ? send_flush(request, context) : send_piece(request, context);
}

// Nothing more of it is sent. Settled from the loop, as we may be inside submit().
void RemoteQueue::refuse(block::Request& request, std::error_code error) {
  if (!request.result) request.result = error;
  request.unlink();
  if (progress(request).messages != 0) return;  // the last answer settles it
  finished_.push_back(request);
  lane_.loop().defer(finished_task_);
}

bool RemoteQueue::send_flush(block::Request& request, IoContext& context) {
  request.unlink();
  if (!device_.limits.wire.cache) {  // nothing to flush
    finished_.push_back(request);    // settled from the loop: we may be inside submit()
    lane_.loop().defer(finished_task_);
    return false;
  }
  context.direction =
      rtrs::Direction::read;  // as the kernel does, by the lowest bit of the operation
  context.data = {};
  context.data_length = 0;
  progress(request).position = device_.flushes->changes();  // a flush has no other use for it
  send(request, context,
       {.device_id = device_.device_id,
        .op = wire::IoOp::flush,
        .flags = wire::kIoSync | wire::kIoFua,
        .sector = wire::kFlushSector,
        .length = 0,
        .priority = 0});
  return true;
}

bool RemoteQueue::send_piece(block::Request& request, IoContext& context) {
  Progress& at = progress(request);
  const WireLimits& limits = device_.limits.wire;
  const std::uint64_t left = request.length - at.position;
  auto length = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, limits.most(request.op)));
  context.data = {};
  context.data_length = 0;
  context.direction = request.op == Op::read ? rtrs::Direction::read : rtrs::Direction::write;
  if (block::carries_data(request.op)) {
    if (length == request.length && request.segments.size() <= IoContext::kSegments) {
      context.data = request.segments;  // the common case: all of it
    } else {
      const Slice slice = cut(request.segments, at.cursor, length, limits.block_size, context.room);
      context.data = slice.segments;
      length = slice.bytes;
    }
    context.data_length = length;
  }
  if (length ==
      0) {  // the server cannot do this any more, or the memory is too scattered for a single block
    refuse(request, from_errno(block::carries_data(request.op) ? EINVAL : EOPNOTSUPP));
    return false;
  }
  const std::uint64_t offset = request.offset + at.position;
  at.position += length;
  if (at.position == request.length) request.unlink();
  send(request, context,
       {.device_id = device_.device_id,
        .op = wire_op(request.op),
        .flags = wire_flags(request, limits),
        .sector = offset >> wire::kSectorShift,
        .length = length,
        .priority = 0});
  return true;
}

void RemoteQueue::send(block::Request& request, IoContext& context, const wire::Io& io) {
  ++progress(request).messages;
  ++device_.out;
  lane_.message_out();
  context.queue = this;
  context.parent = &request;
  context.generation = device_.generation;
  context.io = wire::encode(io);
  context.message = std::as_bytes(std::span(&context.io, 1));
  context.done = &RemoteQueue::on_done;
  lane_.submit(context);
}

// ---- completion ----

void RemoteQueue::on_done(rtrs::client::Request& request, std::error_code error) {
  auto& context = static_cast<IoContext&>(request);
  context.queue->piece_done(context, error);
}

void RemoteQueue::piece_done(IoContext& context, std::error_code error) {
  block::Request& request = *context.parent;
  ClientLane& lane = lane_;  // outlives this queue, which may end with its last request
  Progress& at = progress(request);
  --at.messages;
  if (at.posted == TimePoint{}) at.posted = context.posted;
  device_.message_back();
  const std::uint32_t generation = context.generation;
  lane.give_back(context);
  if (fate_unknown(error) && !broken(Rule::r15)) {
    at.repeat = true;
    device_.unknown |= error != from_errno(ENOTCONN);  // else it was never taken
    if (device_.gate == Gate::open && generation == device_.generation) {
      device_.shut();
      device_.lost(generation);
    }
  } else if (error && !request.result) {
    request.result = error;
  }
  if (error) request.unlink();  // no use in sending the rest now
  if (at.messages == 0 && !request.linked()) settle(request);
  lane.pump();
}

// A step is over: repeat it, go on, or complete.
void RemoteQueue::settle(block::Request& request) {
  Progress& at = progress(request);
  // Nothing succeeds on a device that has failed (safety rule R15).
  if (device_.gate == Gate::failed && !request.result && !broken(Rule::r15))
    request.result = make_error_code(Errc::device_failed);
  if (at.repeat) {
    if (device_.gate == Gate::failed) {
      request.result = make_error_code(Errc::device_failed);
      return complete(request);
    }
    request.result.clear();  // whatever one piece was told: the whole step is done again
    start_step(request, at.step);
  } else {
    if (request.result == from_errno(EIO) && hardens(request)) device_.flushes->fail();
    if (request.result) return complete(request);
    count_step(request);
    const Step next = next_step(request, at.step);
    if (next == Step::end) return complete(request);
    start_step(request, next);
  }
  if (device_.gate == Gate::failed) {
    request.result = make_error_code(Errc::device_failed);
    return complete(request);
  }
  again_.push_back(request);
  if (device_.gate == Gate::open) lane_.ready(*this);
}

// Does its present step vouch for stable storage?
bool RemoteQueue::hardens(block::Request& request) const {
  if (progress(request).step != Step::main || request.op == Op::flush)
    return device_.limits.wire.cache;
  return asks_for_fua(request) && server_fua(request, device_.limits.wire);
}

// What the step that just succeeded put into the server's volatile cache, or out of it.
void RemoteQueue::count_step(block::Request& request) {
  const Progress& at = progress(request);
  if (at.step != Step::main || request.op == Op::flush)
    return device_.flushes->flushed(at.position);
  if (block::modifies(request.op) && !hardens(request)) device_.counters.changes.add();
}

void RemoteQueue::count_time(block::Request& request) {
  const Progress& at = progress(request);
  if (at.posted == TimePoint{}) return;
  device_.counters.queue.add(at.posted - at.submitted);
  device_.counters.wire.add(lane_.loop().now() - at.posted);
}

void RemoteQueue::complete(block::Request& request) {
  LaneCounters& counters = device_.counters;
  counters.inflight.subtract();
  count_time(request);
  if (request.result) {
    counters.errors.add();
  } else if (request.op == Op::read) {
    counters.reads.add();
    counters.read_bytes.add(request.length);
  } else if (request.op == Op::write) {
    counters.writes.add();
    counters.write_bytes.add(request.length);
  } else {
    counters.others.add();
  }
  request.done(request);
}

void RemoteQueue::complete_later(block::Request& request, std::error_code error) {
  request.result = error;
  progress(request).step = Step::end;
  finished_.push_back(request);
  lane_.loop().defer(finished_task_);
}

void RemoteQueue::complete_finished() {
  IntrusiveList<block::Request> all;
  all.splice_back(finished_);
  while (!all.empty()) {  // the last one may destroy this queue
    block::Request& request = all.pop_front();
    progress(request).step == Step::end ? complete(request) : settle(request);
  }
}

}  // namespace rnbd::client
