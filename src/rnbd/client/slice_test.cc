#include "rnbd/client/slice.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "base/random.h"

namespace rnbd::client {
namespace {

std::vector<std::byte> bytes_of(std::span<const iovec> segments) {
  std::vector<std::byte> out;
  for (const iovec& segment : segments) {
    const auto* begin = static_cast<const std::byte*>(segment.iov_base);
    out.insert(out.end(), begin, begin + segment.iov_len);
  }
  return out;
}

// Any scattering, any piece size: the pieces are the whole, in order, each in whole blocks.
TEST(Slice, PiecesAreTheWholeInOrder) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SeededRandom random(seed);
    std::vector<std::byte> memory(512 * (1 + random.below(64)));
    for (auto& byte : memory) byte = static_cast<std::byte>(random.next());
    std::vector<iovec> segments;
    for (std::size_t at = 0; at < memory.size();) {
      const std::size_t length = std::min<std::size_t>(memory.size() - at, random.below(3000));
      segments.push_back({memory.data() + at, length});
      at += length;
    }
    SliceCursor cursor;
    std::vector<iovec> room(16);
    std::vector<std::byte> seen;
    const auto most = static_cast<std::uint32_t>(512 * (1 + random.below(16)));
    while (seen.size() < memory.size()) {
      const Slice slice = cut(segments, cursor, most, 512, room);
      if (slice.bytes == 0) break;  // a block of more than 16 segments; cannot go on
      ASSERT_EQ(slice.bytes % 512, 0U);
      ASSERT_LE(slice.bytes, most);
      const auto piece = bytes_of(slice.segments);
      ASSERT_EQ(piece.size(), slice.bytes);
      seen.insert(seen.end(), piece.begin(), piece.end());
    }
    ASSERT_TRUE(std::equal(seen.begin(), seen.end(), memory.begin())) << "seed " << seed;
    if (seen.size() == memory.size()) {
      EXPECT_EQ(cut(segments, cursor, most, 512, room).bytes, 0U);
    }
  }
}

TEST(Slice, StopsAtAWholeBlockWhenTheRoomIsFull) {
  std::vector<std::byte> memory(2048);
  std::vector<iovec> segments;
  for (std::size_t at = 0; at < memory.size(); at += 256)
    segments.push_back({memory.data() + at, 256});
  std::vector<iovec> room(3);
  SliceCursor cursor;
  const Slice first = cut(segments, cursor, 2048, 512, room);
  EXPECT_EQ(first.bytes, 512U);
  EXPECT_EQ(first.segments.size(), 2U);
  EXPECT_EQ(cursor.segment, 2U);
  std::vector<iovec> one(1);
  EXPECT_EQ(cut(segments, cursor, 2048, 512, one).bytes, 0U) << "no block fits one segment";
  EXPECT_EQ(cursor.segment, 2U);
}

}  // namespace
}  // namespace rnbd::client
