#include "reactor/buffer_table.h"

#include "base/assert.h"

namespace rnbd {

int BufferTable::add(std::span<std::byte> memory) {
  if (memory.empty()) return -1;
  if (!tried_) {
    tried_ = true;
    available_ = io_uring_register_buffers_sparse(&ring_.raw(), kSlots) == 0;
  }
  if (!available_) return -1;
  unsigned slot = 0;
  while (slot < kSlots && regions_[slot].end != 0) ++slot;
  if (slot == kSlots || !update(slot, memory)) return -1;
  const auto begin = reinterpret_cast<std::uintptr_t>(memory.data());
  regions_[slot] = {begin, begin + memory.size()};
  if (slot >= used_) used_ = slot + 1;
  return static_cast<int>(slot);
}

void BufferTable::remove(int index) {
  if (index < 0) return;
  const auto slot = static_cast<unsigned>(index);
  RNBD_ASSERT(slot < kSlots);
  RNBD_ASSERT(regions_[slot].end != 0);
  regions_[slot] = {};
  while (used_ > 0 && regions_[used_ - 1].end == 0) --used_;
  update(slot, {});
}

int BufferTable::find(const void* address, std::size_t length) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  for (unsigned slot = 0; slot < used_; ++slot) {
    const Region& region = regions_[slot];
    if (begin >= region.begin && begin < region.end && length <= region.end - begin)
      return static_cast<int>(slot);
  }
  return -1;
}

bool BufferTable::update(unsigned slot, std::span<std::byte> memory) {
  const iovec vector{memory.data(), memory.size()};
  const __u64 tag = 0;
  return io_uring_register_buffers_update_tag(&ring_.raw(), slot, &vector, &tag, 1) == 1;
}

}  // namespace rnbd
