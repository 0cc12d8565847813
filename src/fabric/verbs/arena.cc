#include "fabric/verbs/arena.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/assert.h"

namespace rnbd::fabric::verbs {

Result<Slice> Arena::take(std::size_t size) {
  const std::size_t granules =
      std::max<std::size_t>(1, (size + options_.granule - 1) / options_.granule);
  if (granules > std::numeric_limits<std::uint32_t>::max() / 2) return fail_errno(EMSGSIZE);
  const auto count = static_cast<std::uint32_t>(granules);
  for (std::uint32_t index = 0; index < blocks_.size(); ++index) {
    Entry& entry = blocks_[index];
    if (entry.block == nullptr) continue;
    if (const auto first = entry.map.take(count)) return slice_of(index, *first, count);
  }
  return grow(count);
}

void Arena::give_back(const Slice& slice) {
  if (slice.data == nullptr) return;
  RNBD_ASSERT(slice.index < blocks_.size() && blocks_[slice.index].block.get() == slice.block);
  blocks_[slice.index].map.give_back(slice.first, slice.count);
}

bool Arena::trim() {
  for (Entry& entry : blocks_) {
    if (entry.map.used() == 0 && !entry.touched) entry.block.reset();
    entry.touched = entry.map.used() != 0;
  }
  while (!blocks_.empty() && blocks_.back().block == nullptr) blocks_.pop_back();
  return !blocks_.empty();
}

std::size_t Arena::registered() const {
  std::size_t bytes = 0;
  for (const Entry& entry : blocks_) {
    if (entry.block != nullptr) bytes += entry.block->bytes().size();
  }
  return bytes;
}

Result<Slice> Arena::grow(std::uint32_t count) {
  const std::size_t size = std::max(options_.block_size, count * options_.granule);
  auto block = source_.make(size);
  if (!block) return fail(block.error());
  std::uint32_t index = 0;
  while (index < blocks_.size() && blocks_[index].block != nullptr) ++index;
  Entry entry{std::move(*block), SliceMap(static_cast<std::uint32_t>(size / options_.granule))};
  if (index == blocks_.size()) {
    blocks_.push_back(std::move(entry));
  } else {
    blocks_[index] = std::move(entry);
  }
  return slice_of(index, *blocks_[index].map.take(count), count);
}

Slice Arena::slice_of(std::uint32_t index, std::uint32_t first, std::uint32_t count) {
  Entry& entry = blocks_[index];
  entry.touched = true;
  return {.data = entry.block->bytes().data() + first * options_.granule,
          .block = entry.block.get(),
          .index = index,
          .first = first,
          .count = count};
}

}  // namespace rnbd::fabric::verbs
