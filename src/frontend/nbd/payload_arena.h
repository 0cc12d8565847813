#pragma once
// Memory for the payload of one connection's requests: a fixed mapping, handed out in blocks of
// powers of two (buddy system), so that any mix of sizes fits as well as it can and the largest
// fits whenever nothing is out. Blocks are page aligned. What was freed last is handed out first,
// which keeps a shallow queue in the cache. Nothing is allocated after create(). One thread.

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/error.h"

namespace rnbd::nbd {

class PayloadArena {
 public:
  static constexpr std::size_t kBlockMin = 4096;

  // `bytes` is a power of two, at least kBlockMin and at most 2^32.
  static Result<PayloadArena> create(std::size_t bytes);
  PayloadArena(PayloadArena&& other) noexcept;
  PayloadArena& operator=(PayloadArena&&) = delete;
  ~PayloadArena();

  // Room for `bytes` (1 to capacity()), or nullptr while there is none.
  std::byte* allocate(std::size_t bytes);
  void release(std::byte* block);

  std::size_t capacity() const { return bytes_; }
  std::size_t used() const { return used_; }  // rounded to blocks

 private:
  using Index = std::uint32_t;  // of a block of kBlockMin
  static constexpr Index kNone = 0xffffffff;
  static constexpr std::size_t kOrders = 21;
  struct Block {
    Index next = kNone;
    Index previous = kNone;
    std::uint8_t order = 0;
    bool free = false;  // set in the first block of a free run only
  };
  PayloadArena(std::byte* memory, std::size_t bytes);
  void push(Index index, std::uint8_t order);
  void unlink(Index index);

  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t used_ = 0;
  std::uint8_t top_ = 0;  // order of the whole arena
  std::vector<Block> blocks_;
  std::array<Index, kOrders> heads_{};
};

}  // namespace rnbd::nbd
