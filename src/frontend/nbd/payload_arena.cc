#include "frontend/nbd/payload_arena.h"

#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace rnbd::nbd {

Result<PayloadArena> PayloadArena::create(std::size_t bytes) {
  if (!std::has_single_bit(bytes) || bytes < kBlockMin || bytes > kBlockMin << (kOrders - 1)) {
    return fail_errno(EINVAL);
  }
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno);
  ::madvise(memory, bytes, MADV_DONTDUMP);  // users' data does not belong in a core file
  return PayloadArena(static_cast<std::byte*>(memory), bytes);
}

PayloadArena::PayloadArena(std::byte* memory, std::size_t bytes)
    : memory_(memory),
      bytes_(bytes),
      top_(static_cast<std::uint8_t>(std::countr_zero(bytes / kBlockMin))),
      blocks_(bytes / kBlockMin) {
  heads_.fill(kNone);
  push(0, top_);
}

PayloadArena::PayloadArena(PayloadArena&& other) noexcept
    : memory_(std::exchange(other.memory_, nullptr)),
      bytes_(other.bytes_),
      used_(other.used_),
      top_(other.top_),
      blocks_(std::move(other.blocks_)),
      heads_(other.heads_) {}

PayloadArena::~PayloadArena() {
  if (memory_ != nullptr) ::munmap(memory_, bytes_);
}

std::byte* PayloadArena::allocate(std::size_t bytes) {
  RNBD_ASSERT(bytes > 0);
  RNBD_ASSERT(bytes <= bytes_);
  const std::size_t wanted = std::bit_ceil((bytes + kBlockMin - 1) / kBlockMin);
  const auto order = static_cast<std::uint8_t>(std::countr_zero(wanted));
  std::uint8_t from = order;
  while (from <= top_ && heads_[from] == kNone) ++from;
  if (from > top_) return nullptr;
  const Index index = heads_[from];
  unlink(index);
  while (from > order) {
    --from;
    push(index + (Index{1} << from), from);
  }
  blocks_[index].order = order;
  used_ += kBlockMin << order;
  return memory_ + std::size_t{index} * kBlockMin;
}

void PayloadArena::release(std::byte* block) {
  RNBD_ASSERT(block >= memory_);
  RNBD_ASSERT(block < memory_ + bytes_);
  auto index = static_cast<Index>(static_cast<std::size_t>(block - memory_) / kBlockMin);
  std::uint8_t order = blocks_[index].order;
  RNBD_ASSERT(!blocks_[index].free);
  used_ -= kBlockMin << order;
  while (order < top_) {
    const Index buddy = index ^ (Index{1} << order);
    if (!blocks_[buddy].free || blocks_[buddy].order != order) break;
    unlink(buddy);
    index &= ~(Index{1} << order);
    ++order;
  }
  push(index, order);
}

void PayloadArena::push(Index index, std::uint8_t order) {
  Block& block = blocks_[index];
  block.order = order;
  block.free = true;
  block.previous = kNone;
  block.next = heads_[order];
  if (block.next != kNone) blocks_[block.next].previous = index;
  heads_[order] = index;
}

void PayloadArena::unlink(Index index) {
  Block& block = blocks_[index];
  RNBD_ASSERT(block.free);
  block.free = false;
  if (block.next != kNone) blocks_[block.next].previous = block.previous;
  if (block.previous != kNone) {
    blocks_[block.previous].next = block.next;
  } else {
    heads_[block.order] = block.next;
  }
}

}  // namespace rnbd::nbd
