#pragma once
// How an access at any byte becomes requests of whole blocks: read what is missing, merge, write.
// Pure: a plan is a short list of steps, each one device request with the edits of memory to be
// made before it.

#include <array>
#include <cstddef>
#include <cstdint>

#include "block/split_request.h"

namespace rnbd::fuse {

// Copies `size` bytes, or zeroes them when there is no source.
struct Edit {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::size_t size = 0;
};

struct Step {
  block::SplitRequest::What what;
  std::array<Edit, 2> edits;
};

struct Plan {
  std::array<Step, 5> steps;
  std::size_t count = 0;
  std::uint64_t begin = 0;  // whole blocks touched
  std::uint64_t end = 0;
  bool exclusive = false;  // reads before it writes

  Step& add(const block::SplitRequest::What& what) {
    RNBD_ASSERT(count < steps.size());
    steps[count] = {what, {}};
    return steps[count++];
  }
};

// Memory of one request: `data` has room for the largest access and a block more on either side;
// the scratches for one block each.
struct Memory {
  std::byte* data = nullptr;
  std::byte* scratch[2] = {};
};

struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // not 0
};

// Reads the enclosing blocks to `memory.data`; the bytes asked for begin at data + offset %
// block_size.
Plan plan_read(const Extent& extent, std::uint32_t block_size, const Memory& memory);
// Writes the bytes at `memory.data`; moves them within it at once when they do not begin a block.
Plan plan_write(const Extent& extent, std::uint32_t block_size, const Memory& memory,
                std::uint8_t flags);
Plan plan_zero(const Extent& extent, std::uint32_t block_size, const Memory& memory,
               std::uint8_t flags);

}  // namespace rnbd::fuse
