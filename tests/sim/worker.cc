#include "sim/worker.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace rnbd::sim_test {

using block::Op;

namespace {

constexpr std::byte kHandedBack{0xdb};

std::uint64_t ull(std::uint64_t value) { return value; }

}  // namespace

Worker::Worker(Work& work, block::Device& device, fabric::sim::SimLoop& loop)
    : work_(work), device_(device), loop_(loop) {
  step_.set_place(&loop, work.world.next_id());
  for (std::uint32_t i = 0; i < work.depth; ++i) {
    slots_.push_back(std::make_unique<Slot>());
    slots_.back()->worker = this;
    slots_.back()->memory.fill(kHandedBack);
  }
  wake();
}

void Worker::wake() {
  if (!step_.scheduled() && !closed_)
    work_.world.schedule(step_,
                         work_.world.now() + work_.world.some(std::chrono::microseconds(20)));
}

void Worker::step() {
  if (!opened_) {
    opened_ = true;
    auto queue = device_.open_queue(loop_);
    if (!queue) return work_.report.violation("%s: no queue", work_.who.c_str());
    queue_ = std::move(*queue);
  }
  // In bursts: all at once, or one and then others.
  while (begin()) {
    if (work_.world.chance(3)) return wake();
  }
  if (work_.stopping && under_way_ == 0 && queue_) {
    for (const auto& slot : slots_) check_untouched(*slot);
    queue_.reset();
    closed_ = true;
  }
}

bool Worker::begin() {
  if (work_.stopping || closed_ || under_way_ >= work_.depth) return false;
  if (work_.orphans.empty() && work_.budget == 0) return false;
  Slot& slot = **std::ranges::find_if(slots_, [](const auto& each) { return !each->busy; });
  check_untouched(slot);
  if (!work_.orphans.empty()) {
    const Orphan orphan = work_.orphans.back();
    work_.orphans.pop_back();
    begin_orphan(slot, orphan);
  } else {
    --work_.budget;
    begin_new(slot);
  }
  submit(slot);
  return true;
}

void Worker::begin_orphan(Slot& slot, const Orphan& orphan) {
  slot.op = orphan.op;
  slot.flags = orphan.flags;
  slot.first = orphan.first;
  slot.count = orphan.count;
  slot.write = orphan.id;
  slot.began = work_.model.now();
  if (slot.op == Op::write) work_.model.stamp(slot.write, slot.memory);
}

void Worker::begin_new(Slot& slot) {
  Random& random = work_.world.random();
  const std::uint64_t what = work_.writes ? random.below(20) : 0;
  slot.flags = block::kNoFlags;
  slot.write = 0;
  slot.first = slot.count = 0;
  slot.began = work_.model.now();
  if (what >= 18) {
    slot.op = Op::flush;
    return;
  }
  const auto blocks = work_.model.blocks();
  slot.first = static_cast<std::uint32_t>(random.below(blocks));
  slot.count = static_cast<std::uint32_t>(1 + random.below(random.below(3) == 0 ? kBlocksMost : 2));
  slot.count = std::min(slot.count, blocks - slot.first);
  slot.op = what < 6     ? Op::read
            : what < 16  ? Op::write
            : what == 16 ? Op::write_zeroes
                         : Op::discard;
  if (slot.op == Op::read) return;
  if (slot.op != Op::discard && random.below(6) == 0) slot.flags = block::kFua;
  if (slot.op == Op::write && work_.preflush && random.below(12) == 0)
    slot.flags |= block::kPreflush;
  const bool zeroes = slot.op != Op::write;
  slot.write = work_.model.begin_write(work_.client, slot.first, slot.count, zeroes);
  if (!zeroes) work_.model.stamp(slot.write, slot.memory);
}

void Worker::submit(Slot& slot) {
  slot.busy = true;
  slot.after_failure = work_.device_failed;
  slot.offset = std::uint64_t{slot.first} * kBlock;
  slot.length = std::uint64_t{slot.count} * kBlock;
  slot.result.clear();
  slot.done = &Worker::on_done;
  slot.segments = {};
  if (block::carries_data(slot.op)) {
    const std::size_t cut = slot.count > 1 && work_.world.chance(4) ? kBlock : slot.length;
    slot.halves[0] = {slot.memory.data(), cut};
    slot.halves[1] = {slot.memory.data() + cut, slot.length - cut};
    slot.segments = std::span(slot.halves).first(cut == slot.length ? 1 : 2);
  }
  ++under_way_;
  work_.report.note("%s: %s%s%s #%u [%u,%u)", work_.who.c_str(), block::op_name(slot.op),
                    (slot.flags & block::kFua) != 0 ? "+fua" : "",
                    (slot.flags & block::kPreflush) != 0 ? "+preflush" : "", slot.write, slot.first,
                    slot.first + slot.count);
  queue_->submit(slot);
}

void Worker::ended(Slot& slot) {
  if (!slot.busy) {
    work_.report.violation("I6: %s: %s #%u ended twice", work_.who.c_str(), block::op_name(slot.op),
                           slot.write);
  }
  slot.busy = false;
  --under_way_;
  work_.report.note("%s: %s #%u [%u,%u) ended: %s", work_.who.c_str(), block::op_name(slot.op),
                    slot.write, slot.first, slot.first + slot.count,
                    slot.result ? slot.result.message().c_str() : "ok");
  if (!work_.dead) judge(slot);
  // The memory is ours again, and nobody else may read or write it.
  if (block::carries_data(slot.op)) std::memset(slot.memory.data(), int(kHandedBack), slot.length);
  wake();
}

void Worker::judge(Slot& slot) {
  ++work_.completed;
  work_.world.note((ull(slot.write) << 20) ^ (ull(slot.first) << 8) ^
                   static_cast<std::uint64_t>(slot.op) ^ (slot.result ? 0x80u : 0u));
  if (slot.result) return judge_error(slot);
  if (slot.after_failure) {
    work_.report.violation("R15: %s: %s #%u succeeded on a device that had failed",
                           work_.who.c_str(), block::op_name(slot.op), slot.write);
  }
  if ((slot.flags & block::kPreflush) != 0) work_.model.flush_succeeded(slot.began);
  switch (slot.op) {
    case Op::read: {
      const View view = work_.crashes_at_open == work_.model.crashes() ? View::lenient : work_.view;
      return work_.model.check_read(slot.began, slot.first,
                                    std::span(slot.memory).first(slot.length), view,
                                    work_.who.c_str());
    }
    case Op::flush:
      return work_.model.flush_succeeded(slot.began);
    default:
      return work_.model.write_succeeded(slot.write, (slot.flags & block::kFua) != 0);
  }
}

void Worker::judge_error(const Slot& slot) {
  if (block::modifies(slot.op)) work_.model.write_failed(slot.write);
  if (slot.result == Errc::device_failed) {
    if (!std::exchange(work_.device_failed, true)) work_.on_failed();
    return;
  }
  if (work_.disk_failed) return;
  work_.report.violation("R15: %s: %s #%u failed alone: %s", work_.who.c_str(),
                         block::op_name(slot.op), slot.write, slot.result.message().c_str());
}

void Worker::check_untouched(const Slot& slot) const {
  const auto* bytes = slot.memory.data();
  if (slot.busy ||
      (*bytes == kHandedBack && std::memcmp(bytes, bytes + 1, slot.memory.size() - 1) == 0))
    return;
  work_.report.violation("I5: %s: memory was written to after it was handed back (last: %s #%u)",
                         work_.who.c_str(), block::op_name(slot.op), slot.write);
}

void Worker::collect_orphans(std::vector<Orphan>& orphans) const {
  for (const auto& slot : slots_) {
    if (!slot->busy || !block::modifies(slot->op)) continue;
    orphans.push_back({slot->write, slot->op, slot->flags, slot->first, slot->count});
  }
}

}  // namespace rnbd::sim_test
