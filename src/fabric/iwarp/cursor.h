#pragma once
// A place in scattered memory that moves forward as bytes arrive. Borrows the parts.

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "base/assert.h"

namespace rnbd::fabric::iwarp {

class Cursor {
 public:
  Cursor() = default;
  // At `offset` bytes into the range that `parts` make up, which is at least so long.
  Cursor(std::span<const iovec> parts, std::size_t offset) : parts_(parts) { advance(offset); }

  void advance(std::size_t bytes) {
    while (bytes > 0) {
      RNBD_ASSERT(!parts_.empty());
      const std::size_t left = parts_.front().iov_len - offset_;
      if (bytes < left) {
        offset_ += bytes;
        return;
      }
      bytes -= left;
      next_part();
    }
  }

  // Copies `bytes` here and moves behind them.
  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const auto room = piece(bytes.size());
      std::memcpy(room.data(), bytes.data(), room.size());
      advance(room.size());
      bytes = bytes.subspan(room.size());
    }
  }

  // The next bytes that lie together, at most `most` of them; not empty when `most` is not 0.
  std::span<std::byte> piece(std::size_t most) {
    while (!parts_.empty() && parts_.front().iov_len == offset_) next_part();
    if (most == 0) return {};
    RNBD_ASSERT(!parts_.empty());
    auto* start = static_cast<std::byte*>(parts_.front().iov_base) + offset_;
    return {start, std::min(most, parts_.front().iov_len - offset_)};
  }

 private:
  void next_part() {
    parts_ = parts_.subspan(1);
    offset_ = 0;
  }
  std::span<const iovec> parts_;
  std::size_t offset_ = 0;  // into the first part
};

}  // namespace rnbd::fabric::iwarp
