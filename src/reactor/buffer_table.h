#pragma once
// Memory the ring has pinned and mapped beforehand, so that READ_FIXED and WRITE_FIXED need not do
// it per operation. Best effort: where the kernel refuses (memlock limit, odd memory) there is
// simply no index.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "reactor/ring.h"

namespace rnbd {

class BufferTable {
 public:
  static constexpr unsigned kSlots = 64;

  explicit BufferTable(Ring& ring) : ring_(ring) {}
  BufferTable(const BufferTable&) = delete;
  BufferTable& operator=(const BufferTable&) = delete;

  int add(std::span<std::byte> memory);  // an index, or -1; regions must not overlap
  void remove(int index);  // operations in flight keep the memory pinned until they end
  int find(const void* address,
           std::size_t length) const;  // the region that holds all of it, or -1

 private:
  struct Region {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
  };
  bool update(unsigned slot, std::span<std::byte> memory);

  Ring& ring_;
  bool tried_ = false;      // to make the table
  bool available_ = false;  // and it worked
  unsigned used_ = 0;       // slots below this may be in use
  std::array<Region, kSlots> regions_{};
};

}  // namespace rnbd
