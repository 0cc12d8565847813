#include "rnbd/server/io_handler.h"

#include <algorithm>
#include <cerrno>
#include <new>

#include "base/mutation.h"
#include "rnbd/server/io_plan.h"

namespace rnbd::server {
namespace {

// What goes into the 9 bits of the response: 1 to 511.
int wire_errno(const std::error_code& error) {
  const int value = to_errno(error);
  return error && (value < 1 || value > 511) ? EIO : value;
}

// Failures that say something about the medium, and not just about the request.
bool taints(const std::error_code& error) {
  switch (to_errno(error)) {
    case 0:
    case EINVAL:
    case EOPNOTSUPP:
    case EAGAIN:
    case ENOMEM:
      return false;
    default:
      return true;
  }
}

}  // namespace

struct IoHandler::Operation : block::Request {
  Operation(IoHandler& handler_, rtrs::server::Request& carrier_, LoopMapping& mapping_)
      : handler(handler_), carrier(carrier_), mapping(mapping_) {}

  // What it asks for now makes data stable.
  bool hardens() const { return op == block::Op::flush || (flags & block::kFua) != 0; }

  IoHandler& handler;
  rtrs::server::Request& carrier;
  LoopMapping& mapping;
  IoPlan plan;
  Step step = Step::start;
  std::uint64_t started = 0;  // bytes of the main step handed to the device
  bool ordered = false;       // `range` is in the volume's RangeOrder
  TimePoint submitted{};      // to the backend, last
  TimePoint backend_until{};  // its last answer; the epoch without any
  Duration backend{};
  iovec segment{};
  RangeOrder::Node range;
};

IoHandler::~IoHandler() { RNBD_ASSERT(mappings_.empty()); }

std::error_code IoHandler::attach(LoopMapping& mapping) {
  Volume::PerLoop& part = mapping.volume->loops[index_];
  if (part.queue == nullptr) {
    auto queue = mapping.volume->device->open_queue(loop_);
    if (!queue) return queue.error();
    part.queue = std::move(*queue);
  }
  ++part.mappings;
  mapping.queue = part.queue.get();
  mapping.limits = mapping.volume->device->limits();
  mappings_[{mapping.session_id, mapping.device_id}] = &mapping;
  return {};
}

void IoHandler::detach(LoopMapping& mapping, std::function<void()> drained_call) {
  if (last_ == &mapping) last_ = nullptr;
  if (mappings_.erase({mapping.session_id, mapping.device_id}) == 0)
    return drained_call();  // attach failed
  mapping.drained = std::move(drained_call);
  if (mapping.inflight.get() == 0) drained(mapping);
}

void IoHandler::drained(LoopMapping& mapping) {
  Volume::PerLoop& part = mapping.volume->loops[index_];
  mapping.queue = nullptr;
  if (--part.mappings == 0) part.queue.reset();
  auto call = std::move(mapping.drained);
  call();  // the mapping may be gone now
}

void IoHandler::resized(const Volume& volume) {
  for (const auto& [key, mapping] : mappings_) {
    if (mapping->volume == &volume) mapping->limits = volume.device->limits();
  }
}

LoopMapping* IoHandler::find(std::uint64_t session_id, std::uint32_t device_id) {
  if (last_ != nullptr && last_->device_id == device_id && last_->session_id == session_id)
    return last_;
  const auto found = mappings_.find({session_id, device_id});
  if (found == mappings_.end()) return nullptr;
  return last_ = found->second;
}

void IoHandler::handle(rtrs::server::Request& request, const wire::Io& io) {
  LoopMapping* mapping = find(request.session().id(), io.device_id);
  if (mapping == nullptr) return request.respond(ENOTCONN);
  const wire::Carriage carriage{.read = request.direction() == rtrs::Direction::read,
                                .data_length = static_cast<std::uint32_t>(request.data().size()),
                                .reply_length = request.reply_length()};
  std::error_code error = wire::check_io(io, carriage);
  auto plan = plan_io(io, mapping->limits, mapping->mode == AccessMode::ro);
  if (!plan && plan.error() == from_errno(EIO)) {  // beyond the end, unless the device has grown
    mapping->limits = mapping->volume->device->limits();
    plan = plan_io(io, mapping->limits, mapping->mode == AccessMode::ro);
  }
  if (!error && !plan) error = plan.error();
  if (error || plan->nothing_to_do()) {
    if (error) mapping->errors.add(1);
    return request.respond(wire_errno(error));
  }
  static_assert(sizeof(Operation) <= rtrs::server::Request::kScratchSize &&
                alignof(Operation) <= 64);
  Operation& operation = *new (request.scratch().data()) Operation(*this, request, *mapping);
  operation.plan = *plan;
  begin(operation);
}

void IoHandler::begin(Operation& operation) {
  operation.mapping.inflight.add();
  operation.done = &IoHandler::on_done;
  if (block::modifies(operation.plan.op) && !broken(Rule::r3)) {
    operation.range.begin = operation.plan.offset;
    operation.range.end = operation.plan.offset + operation.plan.length;
    operation.range.owner = &operation;
    operation.ordered = true;
    if (!operation.mapping.volume->order.enter(operation.range)) return;  // resume() goes on
  }
  advance(operation);
}

// Next step: a flush, or the next piece of the request itself. Nothing is begun for a path that has
// begun to close, however long the request waited for its turn (R5).
void IoHandler::advance(Operation& operation) {
  const IoPlan& plan = operation.plan;
  if (operation.step != Step::main || operation.started == plan.length)
    operation.step = plan.after(operation.step);
  if (operation.step == Step::end) return finish(operation);
  if (operation.carrier.abandoned() && !broken(Rule::r5)) {
    operation.result = from_errno(ECANCELED);
    return finish(operation);
  }
  operation.op = block::Op::flush;
  operation.flags = block::kNoFlags;
  operation.offset = operation.length = 0;
  operation.segments = {};
  operation.result.clear();
  if (operation.step == Step::main) next_piece(operation);
  if (operation.hardens() && !broken(Rule::r10) &&
      operation.mapping.volume->flush_failed.load(std::memory_order_relaxed)) {
    operation.result = from_errno(EIO);
    return finish(operation);
  }
  operation.submitted = loop_.precise_now();
  operation.mapping.queue->submit(operation);
}

void IoHandler::next_piece(Operation& operation) {
  const IoPlan& plan = operation.plan;
  operation.op = plan.op;
  operation.flags = plan.flags;
  if (plan.op == block::Op::flush) return;
  operation.offset = plan.offset + operation.started;
  operation.length = std::min(plan.length - operation.started, plan.piece_max);
  if (block::carries_data(plan.op)) {
    operation.segment = {operation.carrier.data().data() + operation.started, operation.length};
    operation.segments = {&operation.segment, 1};
  }
  operation.started += operation.length;
}

void IoHandler::on_done(block::Request& request) {
  Operation& operation = static_cast<Operation&>(request);
  operation.backend_until = operation.handler.answered_at(operation.submitted);
  operation.backend += operation.backend_until - operation.submitted;
  // A failure is told to one of the flushes that run: the others do not vouch for anything either.
  if (!operation.result && operation.hardens() && !broken(Rule::r10) &&
      operation.mapping.volume->flush_failed.load(std::memory_order_relaxed)) {
    operation.result = from_errno(EIO);
  }
  if (!operation.result) return operation.handler.advance(operation);
  if (operation.hardens() && taints(operation.result)) {
    operation.mapping.volume->flush_failed.store(true, std::memory_order_relaxed);
  }
  operation.handler.finish(operation);
}

// An answer of a later round was there when the round began. One of the same round is a backend's
// that does its work at once: the clock is asked how long.
TimePoint IoHandler::answered_at(TimePoint submitted) const {
  const TimePoint now = loop_.now();
  return now > submitted ? now : loop_.precise_now();
}

void IoHandler::count_time(const Operation& operation) {
  if (operation.backend_until == TimePoint{}) return;  // the backend never had it
  const Duration all = operation.backend_until - operation.carrier.arrived();
  operation.mapping.server.add(all - operation.backend);
  operation.mapping.backend.add(operation.backend);
  operation.carrier.set_backend_time(operation.backend, operation.backend_until);
}

void IoHandler::finish(Operation& operation) {
  LoopMapping& mapping = operation.mapping;
  rtrs::server::Request& carrier = operation.carrier;
  const std::error_code error = operation.result;
  if (error) {
    if (!carrier.abandoned()) mapping.errors.add(1);
  } else if (operation.plan.op == block::Op::read) {
    mapping.reads.add(1);
    mapping.read_bytes.add(operation.plan.length);
  } else if (operation.plan.op == block::Op::write) {
    mapping.writes.add(1);
    mapping.write_bytes.add(operation.plan.length);
  }
  count_time(operation);
  RangeOrder::Node* ready =
      operation.ordered ? mapping.volume->order.leave(operation.range) : nullptr;
  operation.~Operation();
  carrier.respond(wire_errno(error));
  resume(ready);
  mapping.inflight.subtract();
  if (mapping.drained && mapping.inflight.get() == 0) drained(mapping);
}

// Lets go on who waited for an overlapping range; each on its own loop.
void IoHandler::resume(RangeOrder::Node* ready) {
  while (ready != nullptr) {
    Operation& operation = *static_cast<Operation*>(ready->owner);
    ready = ready->next;
    IoHandler& handler = operation.handler;
    if (&handler == this) {
      advance(operation);
    } else {
      handler.loop_.post([&handler, &operation] { handler.advance(operation); });
    }
  }
}

}  // namespace rnbd::server
