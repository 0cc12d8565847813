#pragma once
// What one device may show, block by block. Whoever loads the device tells what it begins and how
// that ends; every block that was read is judged.
//
// A block has at most one modification under way, numbered 1, 2, 3... A read may show any sequence
// from the floor at its issue to the newest one begun when it ends. The floor is what can not go
// away: the last modification that succeeded, or what a read has already shown. So a failed
// modification ("unknown": it may have happened, or may happen yet) is legal to see until a later
// one succeeded or was seen, and never again. Sectors of one block are judged one by one, so a
// block may be torn only while there is more than one legal state.
//
// Zeros carry no number: they stand for any zeroing in the window. A trim may leave zeros or what
// was there. Floor 0: nothing is known, any bytes are legal but those this run wrote elsewhere.

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "stamp/sector_stamp.h"

namespace rnbd::fault {

enum class Change { write, zeroes, trim };

class Model {
 public:
  Model(std::uint64_t run, std::uint64_t device, std::uint64_t blocks);

  std::uint64_t blocks() const { return blocks_.size(); }
  std::uint64_t device() const { return device_; }
  bool changing(std::uint64_t block) const { return blocks_[block].changing; }

  // A modification, from its issue to its end; the block must not be changing yet.
  StampKey begin_change(std::uint64_t block, Change change);
  void change_succeeded(std::uint64_t block, bool fua);
  void change_failed(std::uint64_t block);

  // A read of one block: the floor to give to judge(), which ends it. read_failed() ends it as
  // well.
  std::uint64_t begin_read(std::uint64_t block);
  void read_failed(std::uint64_t block);
  // What is wrong with these bytes, if anything.
  std::optional<std::string> judge(std::uint64_t block, std::uint64_t floor,
                                   std::span<const std::byte> bytes);

  // A flush promises what had succeeded when it was issued.
  std::vector<std::uint64_t> begin_flush() const;
  void flush_succeeded(const std::vector<std::uint64_t>& succeeded);
  // The device lost what was not flushed or written with FUA, all of it or any part.
  void power_lost();

  // Changes still under way count as failed in what is saved.
  void save(std::ostream& out) const;
  // False: not what save() wrote, or for another number of blocks.
  bool load(std::istream& in);

 private:
  struct Block {
    std::uint64_t succeeded = 0;  // the last modification that did
    std::uint64_t seen = 0;       // what reads have shown is at least this
    std::uint64_t durable = 0;    // survives a power cut
    std::uint64_t newest = 0;     // the last modification begun
    bool changing = false;        // and it is under way
    bool trimming = false;        // and it is a trim
    std::uint32_t reads = 0;      // under way
    std::vector<std::uint64_t> zeroings;

    std::uint64_t floor() const { return succeeded > seen ? succeeded : seen; }
  };
  void prune(Block& block);
  std::optional<std::string> judge_sector(const Block& state, std::uint64_t block,
                                          std::uint64_t floor, const SectorContent& content,
                                          std::uint64_t& sequence) const;
  StampKey key(std::uint64_t block, std::uint64_t sequence) const {
    return {.run = run_, .device = device_, .block = block, .sequence = sequence};
  }

  std::uint64_t run_;
  std::uint64_t device_;
  std::vector<Block> blocks_;
};

}  // namespace rnbd::fault
