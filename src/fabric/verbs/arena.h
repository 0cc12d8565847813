#pragma once
// Registered memory in slices, for bytes that pass through us: it grows by blocks when needed and
// gives them back when they were not needed for a while, so that nothing is registered per I/O and
// an idle connection pins little. One thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/error.h"
#include "fabric/verbs/slice_map.h"

namespace rnbd::fabric::verbs {

// Registered memory, deregistered and unmapped when destroyed.
class Block {
 public:
  virtual ~Block() = default;
  virtual std::span<std::byte> bytes() = 0;
  virtual std::uint32_t local_key() const = 0;
  virtual std::uint32_t remote_key() const = 0;
  virtual void* handle() = 0;  // the memory region's, for those who bind windows to it
};

class BlockSource {
 public:
  virtual ~BlockSource() = default;
  virtual Result<std::unique_ptr<Block>> make(std::size_t size) = 0;
};

struct Slice {
  std::byte* data = nullptr;  // null: no slice
  Block* block = nullptr;
  std::uint32_t index = 0;             // of the block
  std::uint32_t first = 0, count = 0;  // granules
  std::uint32_t local_key() const { return block->local_key(); }
  std::uint32_t remote_key() const { return block->remote_key(); }
};

struct ArenaOptions {
  std::size_t granule = 512;
  std::size_t block_size = 2u << 20;
};

class Arena {
 public:
  Arena(BlockSource& source, const ArenaOptions& options) : source_(source), options_(options) {}

  // At least `size` bytes, the start aligned to the granule. What fails is growing.
  Result<Slice> take(std::size_t size);
  void give_back(const Slice& slice);  // no slice is fine
  // Gives blocks back that lay idle since the last call; true while any are left.
  bool trim();
  // Everything, slices still out included: when nothing can use them any more.
  void clear() { blocks_.clear(); }
  bool empty() const { return blocks_.empty(); }
  std::size_t registered() const;  // bytes

 private:
  struct Entry {
    std::unique_ptr<Block> block;  // null: a hole to be filled
    SliceMap map;
    bool touched = true;  // since the last trim
  };
  Result<Slice> grow(std::uint32_t count);
  Slice slice_of(std::uint32_t index, std::uint32_t first, std::uint32_t count);

  BlockSource& source_;
  ArenaOptions options_;
  std::vector<Entry> blocks_;
};

}  // namespace rnbd::fabric::verbs
