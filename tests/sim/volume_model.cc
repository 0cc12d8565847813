#include "sim/volume_model.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace rnbd::sim_test {
namespace {

constexpr std::uint64_t kMagic = 0x524e4244'53494d00;

bool all_alike(const std::byte* bytes, std::size_t period) {
  return std::memcmp(bytes, bytes + period, kBlock - period) == 0;
}

}  // namespace

VolumeModel::VolumeModel(std::uint32_t number, std::uint32_t blocks, const Report& report)
    : number_(number), report_(report), blocks_(blocks) {
  writes_.reserve(256);
  // The zeros of a new volume: write 0.
  writes_.push_back(
      {.count = blocks, .zeroes = true, .fate = Fate::succeeded, .begin = 1, .end = 1});
  for (Block& block : blocks_) {
    block.reserve(32);
    block.push_back({});
  }
}

WriteId VolumeModel::begin_write(std::uint32_t client, std::uint32_t first, std::uint32_t count,
                                 bool zeroes) {
  const auto id = static_cast<WriteId>(writes_.size());
  writes_.push_back({.client = client,
                     .first = first,
                     .count = count,
                     .zeroes = zeroes,
                     .crashes = crashes_,
                     .begin = ++tick_});
  for (std::uint32_t i = first; i < first + count; ++i) blocks_[i].push_back({.id = id});
  return id;
}

void VolumeModel::stamp(WriteId id, std::span<std::byte> memory) const {
  const Write& write = writes_[id];
  for (std::uint32_t i = 0; i < write.count; ++i) {
    const Stamp stamp{kMagic + number_, write.first + i, id, write.client};
    std::byte* at = memory.data() + std::size_t{i} * kBlock;
    for (std::size_t offset = 0; offset < kBlock; offset += sizeof(stamp))
      std::memcpy(at + offset, &stamp, sizeof(stamp));
  }
}

bool VolumeModel::author(const std::byte* block, std::uint32_t& client) const {
  Stamp stamp;
  std::memcpy(&stamp, block, sizeof(stamp));
  client = static_cast<std::uint32_t>(stamp.client);
  return stamp.magic == kMagic + number_;
}

void VolumeModel::write_succeeded(WriteId id, bool fua) {
  Write& write = writes_[id];
  write.end = ++tick_;
  write.fate = Fate::succeeded;
  const bool powered = write.crashes == crashes_;  // else it may have been lost before it was told
  for (std::uint32_t i = write.first; i < write.first + write.count; ++i) {
    for (Candidate& candidate : blocks_[i]) {
      if (candidate.id == id || !superseded(candidate, write)) continue;
      candidate.strict = std::min(candidate.strict, tick_);
      candidate.shown = 0;
      if (!powered) continue;
      candidate.lenient = std::min(candidate.lenient, tick_);
      if (fua) candidate.stable = false;
    }
  }
}

void VolumeModel::write_failed(WriteId id) {
  writes_[id].end = ++tick_;
  writes_[id].fate = Fate::failed;
}

void VolumeModel::flush_succeeded(const Moment& began) {
  ++tick_;
  if (began.crashes != crashes_) return;
  for (Block& block : blocks_) {
    for (const Candidate& flushed : block) {
      const Write& write = writes_[flushed.id];
      if (write.fate != Fate::succeeded || write.end > began.tick || write.crashes != crashes_)
        continue;
      for (Candidate& candidate : block) {
        if (candidate.id != flushed.id && superseded(candidate, write)) candidate.stable = false;
      }
    }
  }
}

void VolumeModel::power_lost() {
  ++tick_;
  ++crashes_;
  for (Block& block : blocks_) {
    for (Candidate& candidate : block) {
      candidate.lenient = candidate.stable ? kAlive : std::min(candidate.lenient, tick_);
      // Somebody saw the later one, but its writer was not promised anything.
      const WriteId shown = std::exchange(candidate.shown, 0);
      if (shown != 0 && writes_[shown].fate != Fate::succeeded && candidate.stable)
        candidate.strict = kAlive;
    }
  }
}

void VolumeModel::loss_known() {
  for (Block& block : blocks_) {
    for (Candidate& candidate : block) candidate.strict = candidate.lenient;
  }
}

bool VolumeModel::parse(const std::byte* bytes, std::uint32_t block, bool& zero,
                        WriteId& id) const {
  Stamp stamp;
  std::memcpy(&stamp, bytes, sizeof(stamp));
  zero = stamp.magic == 0 && stamp.block == 0 && stamp.write == 0 && stamp.client == 0;
  id = static_cast<WriteId>(stamp.write);
  if (!all_alike(bytes, sizeof(stamp))) {
    report_.violation("I2: volume %u block %u is torn (first stamp: block %llu of write %llu)",
                      number_, block, static_cast<unsigned long long>(stamp.block),
                      static_cast<unsigned long long>(stamp.write));
    return false;
  }
  if (zero) return true;
  if (stamp.magic != kMagic + number_ || stamp.block != block || stamp.write >= writes_.size()) {
    report_.violation(
        "I2: volume %u block %u holds what was never written there (magic %llx block %llu write "
        "%llu)",
        number_, block, static_cast<unsigned long long>(stamp.magic),
        static_cast<unsigned long long>(stamp.block), static_cast<unsigned long long>(stamp.write));
    return false;
  }
  return true;
}

template <class Allowed>
bool VolumeModel::check_block(std::uint32_t index, const std::byte* bytes, Allowed allowed,
                              const char* who) {
  bool zero = false;
  WriteId id = 0;
  if (!parse(bytes, index, zero, id)) return false;
  for (const Candidate& candidate : blocks_[index]) {
    if (zero ? !writes_[candidate.id].zeroes : candidate.id != id) continue;
    if (allowed(candidate)) return true;
  }
  describe(index, who, zero, id);
  return false;
}

void VolumeModel::describe(std::uint32_t index, const char* who, bool zero, WriteId id) const {
  std::string allowed;
  for (const Candidate& candidate : blocks_[index]) {
    if (candidate.strict != kAlive && candidate.lenient != kAlive && !candidate.stable) continue;
    allowed += " " + std::to_string(candidate.id) + (writes_[candidate.id].zeroes ? "(zeros)" : "");
    allowed += std::string(candidate.strict == kAlive ? "s" : "") +
               (candidate.lenient == kAlive ? "l" : "") + (candidate.stable ? "p" : "");
  }
  report_.violation("I1/I3: %s volume %u block %u holds %s%u; possible:%s", who, number_, index,
                    zero ? "zeros " : "write ", zero ? 0 : id, allowed.c_str());
}

void VolumeModel::check_read(const Moment& began, std::uint32_t first,
                             std::span<const std::byte> memory, View view, const char* who) {
  ++tick_;
  const auto count = static_cast<std::uint32_t>(memory.size() / kBlock);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::byte* bytes = memory.data() + std::size_t{i} * kBlock;
    const auto allowed = [&](const Candidate& candidate) {
      return (view == View::strict ? candidate.strict : candidate.lenient) > began.tick;
    };
    if (!check_block(first + i, bytes, allowed, who)) return;
    Stamp stamp;
    std::memcpy(&stamp, bytes, sizeof(stamp));
    if (stamp.magic != 0) observed(blocks_[first + i], static_cast<WriteId>(stamp.write), began);
  }
}

// A read that began after a write succeeded showed another one: so that one was the later.
void VolumeModel::observed(Block& block, WriteId id, const Moment& began) {
  if (began.crashes != crashes_) return;
  for (Candidate& candidate : block) {
    const Write& write = writes_[candidate.id];
    if (candidate.id == id || write.fate != Fate::succeeded || write.end > began.tick ||
        write.crashes != crashes_) {
      continue;
    }
    if (candidate.strict == kAlive && writes_[id].fate != Fate::succeeded) candidate.shown = id;
    candidate.strict = std::min(candidate.strict, tick_);
    candidate.lenient = std::min(candidate.lenient, tick_);
  }
}

void VolumeModel::check_contents(std::span<const std::byte> contents, View view, const char* when) {
  const auto allowed = [&](const Candidate& candidate) {
    return (view == View::strict ? candidate.strict : candidate.lenient) == kAlive;
  };
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    if (!check_block(i, contents.data() + std::size_t{i} * kBlock, allowed, when)) return;
  }
}

void VolumeModel::check_stable(std::span<const std::byte> contents) {
  const auto allowed = [](const Candidate& candidate) { return candidate.stable; };
  for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
    if (!check_block(i, contents.data() + std::size_t{i} * kBlock, allowed,
                     "I3: after a power cut"))
      return;
  }
}

}  // namespace rnbd::sim_test
