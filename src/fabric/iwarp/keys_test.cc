#include "fabric/iwarp/keys.h"

#include <gtest/gtest.h>

#include <set>

namespace rnbd::fabric::iwarp {
namespace {

TEST(IndexPermutation, IsOneToOneAndItsInverseFits) {
  SeededRandom random(3);
  for (int round = 0; round < 4; ++round) {
    const IndexPermutation permutation(random);
    std::set<std::uint32_t> seen;
    for (std::uint32_t slot = 0; slot < 5000; ++slot) {
      const std::uint32_t index = permutation.index_of(slot);
      EXPECT_LE(index, IndexPermutation::kMask);
      EXPECT_EQ(permutation.slot_of(index), slot);
      seen.insert(index);
    }
    EXPECT_EQ(seen.size(), 5000U);
  }
}

struct Ground {
  SeededRandom random{1};
  IwarpDomain domain{random};
  Keys keys{domain, random, 3};
  std::vector<std::byte> bytes = std::vector<std::byte>(100);
  iovec parts[2] = {{bytes.data(), 40}, {bytes.data() + 60, 40}};
  Cursor cursor;
};

TEST(Keys, AWindowIsOneRangeOverItsParts) {
  Ground g;
  const RemoteSpan span = *g.keys.expose(2, g.parts);
  EXPECT_EQ(span.length, 80U);
  ASSERT_EQ(g.keys.resolve(span.key, span.address + 30, 20, g.cursor), KeyFault::none);
  std::vector<std::byte> data(20, std::byte{7});
  g.cursor.write(data);
  for (std::size_t i = 0; i < 100; ++i) {
    const bool written = (i >= 30 && i < 40) || (i >= 60 && i < 70);
    EXPECT_EQ(g.bytes[i], written ? std::byte{7} : std::byte{0}) << i;
  }
}

TEST(Keys, EveryExposureHasItsOwnKeyForALongTime) {
  Ground g;
  std::set<std::uint32_t> keys;
  for (int i = 0; i < 100000; ++i) {
    const RemoteSpan span = *g.keys.expose(1, g.parts);
    EXPECT_NE(span.key, 0U);
    EXPECT_EQ(span.address % 4096, 0U);
    keys.insert(span.key);
    g.keys.hide(1);
    EXPECT_EQ(g.keys.resolve(span.key, span.address, 1, g.cursor), KeyFault::stag);
  }
  EXPECT_EQ(keys.size(), 100000U);
}

TEST(Keys, RangesAreCheckedWithoutOverflow) {
  Ground g;
  const RemoteSpan span = *g.keys.expose(0, g.parts);
  const auto resolve = [&](std::uint64_t offset, std::uint64_t n) {
    return g.keys.resolve(span.key, offset, n, g.cursor);
  };
  EXPECT_EQ(resolve(span.address, 80), KeyFault::none);
  EXPECT_EQ(resolve(span.address, 81), KeyFault::bounds);
  EXPECT_EQ(resolve(span.address - 1, 2), KeyFault::bounds);
  EXPECT_EQ(resolve(span.address + 80, 1), KeyFault::bounds);
  EXPECT_EQ(resolve(0, 1), KeyFault::bounds);
  EXPECT_EQ(resolve(~std::uint64_t{0} - 7, 16), KeyFault::wrap);
  EXPECT_EQ(resolve(~std::uint64_t{0}, 1), KeyFault::wrap);
}

TEST(Keys, AMemoryRegisteredInAFreedSlotHasANewKey) {
  Ground g;
  std::set<std::uint32_t> keys;
  for (int i = 0; i < 1000; ++i) {
    auto memory = std::move(
        *g.domain.register_memory({.size = 1, .access = Access::remote_write, .chunk_size = 0}));
    keys.insert(memory->remote(0, 1).key);
  }
  EXPECT_EQ(keys.size(), 1000U);
}

TEST(Memory, IsGuardedOnBothSides) {
  Ground g;
  auto memory = std::move(
      *g.domain.register_memory({.size = 4096, .access = Access::remote_write, .chunk_size = 0}));
  volatile std::byte* start = memory->bytes().data();
  EXPECT_DEATH(start[4096] = std::byte{1}, "");
  EXPECT_DEATH(*(start - 1) = std::byte{1}, "");
}

}  // namespace
}  // namespace rnbd::fabric::iwarp
