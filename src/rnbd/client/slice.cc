#include "rnbd/client/slice.h"

#include <algorithm>

namespace rnbd::client {
namespace {

void move(std::span<const iovec> segments, SliceCursor& cursor, std::uint64_t bytes) {
  while (bytes > 0) {
    const std::uint64_t here =
        std::min<std::uint64_t>(segments[cursor.segment].iov_len - cursor.offset, bytes);
    cursor.offset += here;
    bytes -= here;
    if (cursor.offset == segments[cursor.segment].iov_len) cursor = {cursor.segment + 1, 0};
  }
}

}  // namespace

Slice cut(std::span<const iovec> segments, SliceCursor& cursor, std::uint32_t most,
          std::uint32_t block_size, std::span<iovec> room) {
  std::size_t used = 0;
  std::uint32_t bytes = 0;
  SliceCursor at = cursor;
  for (; bytes < most && at.segment < segments.size() && used < room.size();
       at = {at.segment + 1, 0}) {
    const iovec& segment = segments[at.segment];
    const std::uint64_t here = std::min<std::uint64_t>(segment.iov_len - at.offset, most - bytes);
    if (here == 0) continue;
    room[used++] = {static_cast<std::byte*>(segment.iov_base) + at.offset, here};
    bytes += static_cast<std::uint32_t>(here);
  }
  for (std::uint32_t excess = bytes % block_size; excess > 0;) {
    iovec& last = room[used - 1];
    const auto here = static_cast<std::uint32_t>(std::min<std::size_t>(last.iov_len, excess));
    last.iov_len -= here;
    bytes -= here;
    excess -= here;
    if (last.iov_len == 0) --used;
  }
  move(segments, cursor, bytes);
  return {bytes, room.first(used)};
}

}  // namespace rnbd::client
