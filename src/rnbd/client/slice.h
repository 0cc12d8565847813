#pragma once
// Cutting scattered memory into pieces without touching what is in it.

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace rnbd::client {

// A place in a list of segments.
struct SliceCursor {
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;  // in that segment
};

struct Slice {
  std::uint32_t bytes = 0;
  std::span<const iovec> segments;  // in the room given
};

// The next `most` bytes from `cursor` on, which moves behind them; fewer, but whole blocks, where
// `room` is too small. No bytes: not even a block fits, or nothing is left.
Slice cut(std::span<const iovec> segments, SliceCursor& cursor, std::uint32_t most,
          std::uint32_t block_size, std::span<iovec> room);

}  // namespace rnbd::client
