#include "stamp/load.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace rnbd::fault {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kRecentMax = 32;
constexpr std::size_t kViolationsMax = 20;
constexpr auto kErrorPause = 2ms;
// Of 100 requests; the rest are reads.
constexpr std::uint64_t kWrites = 40;
constexpr std::uint64_t kZeroes = 5;
constexpr std::uint64_t kTrims = 3;
constexpr std::uint64_t kFlushes = 3;

}  // namespace

Load::Load(Model& model, LoadOptions options)
    : model_(model),
      options_(options),
      random_(options.seed),
      memory_(static_cast<std::byte*>(
          ::operator new[](options.depth* kSpanMax* options.block_size, std::align_val_t{4096}))),
      slots_(options.depth),
      stopped_(options.reads_only) {
  for (std::size_t i = 0; i < slots_.size(); ++i)
    slots_[i].buffer = memory_.get() + i * kSpanMax * options_.block_size;
}

void Load::attach(std::unique_ptr<Target> target) {
  target_ = std::move(target);
  last_success_ = Clock::now();
}

void Load::pump() {
  if (Clock::now() < pause_until_) return;
  for (Slot& slot : slots_) {
    if (slot.busy) continue;
    if (!target_->ready()) return;
    if (options_.operations != 0 && started_ >= options_.operations) stopped_ = true;
    if (!(reading_back_ ? start_back(slot) : !stopped_ && start_one(slot))) return;
  }
}

void Load::read_back() {
  reading_back_ = true;
  last_success_ = Clock::now();
}

std::uint64_t Load::choose_block() {
  const std::uint64_t way = random_.below(4);
  if (way == 0 && !recent_.empty()) return recent_[random_.below(recent_.size())];
  if (way == 1) return random_.below(std::max<std::uint64_t>(1, model_.blocks() / 16));
  return random_.below(model_.blocks());
}

bool Load::choose_range(Slot& slot, bool for_change) {
  slot.block = choose_block();
  const std::uint64_t wanted = random_.below(2) == 0 ? 1 : 1 + random_.below(kSpanMax);
  slot.count = std::min<std::uint64_t>(wanted, model_.blocks() - slot.block);
  if (!for_change) return true;
  for (std::size_t i = 0; i < slot.count; ++i) {
    if (!model_.changing(slot.block + i)) continue;
    slot.count = i;
    break;
  }
  return slot.count > 0;
}

bool Load::start_one(Slot& slot) {
  ++started_;
  std::uint64_t dice = random_.below(100);
  if (options_.plain) dice = dice < kWrites ? kFlushes : 99;
  if (dice < kFlushes) {
    slot.flush = model_.begin_flush();
    slot.block = 0;
    slot.count = 0;
    submit(slot, Io::Kind::flush, false);
    return true;
  }
  const Abilities can = target_->abilities();
  Io::Kind kind = Io::Kind::read;
  if (dice < kFlushes + kWrites)
    kind = Io::Kind::write;
  else if (dice < kFlushes + kWrites + kZeroes && can.zeroes)
    kind = Io::Kind::zeroes;
  else if (dice < kFlushes + kWrites + kZeroes + kTrims && can.trim)
    kind = Io::Kind::trim;
  if (kind != Io::Kind::read && !choose_range(slot, true)) kind = Io::Kind::read;
  if (kind == Io::Kind::read) (void)choose_range(slot, false);
  submit(slot, kind, kind == Io::Kind::write && !options_.plain && random_.below(8) == 0);
  return true;
}

bool Load::start_back(Slot& slot) {
  if (!again_.empty()) {
    slot.block = again_.back();
    again_.pop_back();
    slot.count = 1;
  } else if (next_back_ < model_.blocks()) {
    slot.block = next_back_;
    slot.count = std::min<std::uint64_t>(kSpanMax, model_.blocks() - next_back_);
    next_back_ += slot.count;
  } else {
    return false;
  }
  submit(slot, Io::Kind::read, false);
  return true;
}

void Load::submit(Slot& slot, Io::Kind kind, bool fua) {
  slot.io = {.kind = kind,
             .fua = fua,
             .offset = slot.block * options_.block_size,
             .length = static_cast<std::uint32_t>(slot.count * options_.block_size),
             .data = slot.buffer};
  for (std::size_t i = 0; i < slot.count; ++i) {
    const std::uint64_t block = slot.block + i;
    if (kind == Io::Kind::read) {
      slot.floors[i] = model_.begin_read(block);
      continue;
    }
    const Change change = kind == Io::Kind::write    ? Change::write
                          : kind == Io::Kind::zeroes ? Change::zeroes
                                                     : Change::trim;
    const StampKey key = model_.begin_change(block, change);
    if (kind == Io::Kind::write)
      stamp_block({slot.buffer + i * options_.block_size, options_.block_size}, key);
  }
  slot.busy = true;
  slot.since = Clock::now();
  ++under_way_;
  target_->submit(slot.io);
}

void Load::on_done(Io& io, int error) {
  const auto found =
      std::find_if(slots_.begin(), slots_.end(), [&](Slot& s) { return &s.io == &io; });
  RNBD_ASSERT(found != slots_.end());
  Slot& slot = *found;
  RNBD_ASSERT(slot.busy);
  slot.busy = false;
  --under_way_;
  count(slot, error);
  if (io.kind == Io::Kind::read)
    end_read(slot, error);
  else if (io.kind == Io::Kind::flush)
    error ? void() : model_.flush_succeeded(slot.flush);
  else
    end_change(slot, error);
}

void Load::count(const Slot& slot, int error) {
  const Clock::time_point now = Clock::now();
  report_.longest_request = std::max(report_.longest_request, now - slot.since);
  if (error == ENOTCONN) {
    ++report_.lost;
    return;
  }
  if (error != 0) {
    ++report_.errors;
    report_.error_numbers.insert(error);
    pause_until_ = now + kErrorPause;
    return;
  }
  report_.longest_gap = std::max(report_.longest_gap, now - last_success_);
  last_success_ = now;
  std::uint64_t* const counters[] = {&report_.reads, &report_.writes, &report_.zeroes,
                                     &report_.trims, &report_.flushes};
  ++*counters[static_cast<std::size_t>(slot.io.kind)];
}

void Load::end_change(Slot& slot, int error) {
  for (std::size_t i = 0; i < slot.count; ++i) {
    const std::uint64_t block = slot.block + i;
    error ? model_.change_failed(block) : model_.change_succeeded(block, slot.io.fua);
    recent_.push_back(block);
    if (recent_.size() > kRecentMax) recent_.pop_front();
  }
}

void Load::end_read(Slot& slot, int error) {
  for (std::size_t i = 0; i < slot.count; ++i) {
    const std::uint64_t block = slot.block + i;
    if (error != 0) {
      model_.read_failed(block);
      if (reading_back_) again_.push_back(block);
      continue;
    }
    ++report_.blocks_judged;
    auto wrong = model_.judge(block, slot.floors[i],
                              {slot.buffer + i * options_.block_size, options_.block_size});
    if (!wrong) continue;
    ++report_.wrong;
    if (report_.violations.size() < kViolationsMax) report_.violations.push_back(std::move(*wrong));
  }
}

void Load::abandon() {
  for (Slot& slot : slots_) {
    if (!slot.busy || slot.io.kind == Io::Kind::flush) continue;
    for (std::size_t i = 0; i < slot.count; ++i) {
      if (slot.io.kind == Io::Kind::read)
        model_.read_failed(slot.block + i);
      else
        model_.change_failed(slot.block + i);
    }
  }
}

}  // namespace rnbd::fault
