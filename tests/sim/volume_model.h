#pragma once
// What a volume may hold, known from the outside only: which writes were begun, how they ended,
// what was flushed, when power was lost. Every block written carries a stamp (volume, block, number
// of the write), so that a stale but whole block is told from the right one.
//
// Each block is a register. A write that ended may no longer be seen once a write that began after
// its end has succeeded (I1); between writes that overlap in time any order is right, but once a
// read has shown who was last it stays so. Bytes that are no stamp of this block are wrong (I2).
// What was flushed, or written with FUA, is there after a power cut (I3).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sim/report.h"

namespace rnbd::sim_test {

inline constexpr std::uint32_t kBlock = 512;

using WriteId = std::uint32_t;

// What a device must have: of those that were lost unflushed in a power cut nothing (lenient), or
// even those (strict: who was told that they are written and never that they were lost).
enum class View : std::uint8_t { strict, lenient };

class VolumeModel {
 public:
  VolumeModel(std::uint32_t number, std::uint32_t blocks, const Report& report);

  std::uint32_t blocks() const { return static_cast<std::uint32_t>(blocks_.size()); }

  WriteId begin_write(std::uint32_t client, std::uint32_t first, std::uint32_t count, bool zeroes);
  // Fills `memory` with what that write puts into its blocks.
  void stamp(WriteId id, std::span<std::byte> memory) const;
  // The client whose write these bytes belong to; false where they are no stamp.
  bool author(const std::byte* block, std::uint32_t& client) const;
  void write_succeeded(WriteId id, bool fua);
  // It may have happened, and may still happen as long as nothing newer succeeded.
  void write_failed(WriteId id);

  // A moment, to be given back when what began then has ended.
  struct Moment {
    std::uint64_t tick = 0;
    std::uint32_t crashes = 0;
  };
  Moment now() { return {++tick_, crashes_}; }
  std::uint32_t crashes() const { return crashes_; }
  void flush_succeeded(const Moment& began);
  void check_read(const Moment& began, std::uint32_t first, std::span<const std::byte> memory,
                  View view, const char* who);

  void power_lost();
  // From now on what was lost is known to be lost.
  void loss_known();

  // The medium itself, when nothing is under way. `after_power_cut`: only what was flushed is owed.
  void check_contents(std::span<const std::byte> contents, View view, const char* when);
  void check_stable(std::span<const std::byte> contents);

 private:
  static constexpr std::uint64_t kAlive = ~std::uint64_t{0};
  enum class Fate : std::uint8_t { pending, succeeded, failed };
  struct Write {
    std::uint32_t client = 0;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    bool zeroes = false;
    Fate fate = Fate::pending;
    std::uint32_t crashes = 0;  // when it began
    std::uint64_t begin = 0;
    std::uint64_t end = 0;  // 0: not yet
  };
  // A write that a block may hold, and until when.
  struct Candidate {
    WriteId id = 0;
    std::uint64_t strict = kAlive;
    std::uint64_t lenient = kAlive;
    bool stable = true;  // may be found after a power cut
    WriteId shown = 0;   // a read showed that this one was later; nobody was told that it succeeded
  };
  struct Stamp {
    std::uint64_t magic;
    std::uint64_t block;
    std::uint64_t write;
    std::uint64_t client;
  };
  static_assert(kBlock % sizeof(Stamp) == 0);
  using Block = std::vector<Candidate>;

  bool superseded(const Candidate& candidate, const Write& by) const {
    const Write& write = writes_[candidate.id];
    return write.end != 0 && write.end < by.begin;
  }
  bool parse(const std::byte* bytes, std::uint32_t block, bool& zero, WriteId& id) const;
  void observed(Block& block, WriteId id, const Moment& began);
  template <class Allowed>
  bool check_block(std::uint32_t index, const std::byte* bytes, Allowed allowed, const char* who);
  void describe(std::uint32_t index, const char* who, bool zero, WriteId id) const;

  const std::uint32_t number_;
  const Report& report_;
  std::uint64_t tick_ = 1;
  std::uint32_t crashes_ = 0;
  std::vector<Write> writes_;
  std::vector<Block> blocks_;
};

}  // namespace rnbd::sim_test
