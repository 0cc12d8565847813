#include "frontend/nbd/payload_arena.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "base/random.h"

namespace rnbd::nbd {
namespace {

TEST(PayloadArena, RefusesSizesThatAreNoPowerOfTwo) {
  EXPECT_FALSE(PayloadArena::create(0));
  EXPECT_FALSE(PayloadArena::create(4095));
  EXPECT_FALSE(PayloadArena::create(3 << 20));
  EXPECT_FALSE(PayloadArena::create(std::size_t{1} << 40));
}

TEST(PayloadArena, FitsItsWholeCapacityWheneverNothingIsOut) {
  auto arena = PayloadArena::create(1 << 20);
  ASSERT_TRUE(arena);
  for (int round = 0; round < 3; ++round) {
    std::byte* all = arena->allocate(1 << 20);
    ASSERT_NE(all, nullptr);
    EXPECT_EQ(arena->allocate(1), nullptr);
    arena->release(all);
    std::byte* a = arena->allocate(1);
    std::byte* b = arena->allocate(5000);
    EXPECT_EQ(arena->used(), 4096U + 8192U);
    EXPECT_EQ(arena->allocate(1 << 20), nullptr);
    arena->release(a);
    arena->release(b);
    EXPECT_EQ(arena->used(), 0U);
  }
}

TEST(PayloadArena, ReusesTheSameMemoryForAShallowQueue) {
  auto arena = PayloadArena::create(1 << 20);
  std::byte* first = arena->allocate(4096);
  arena->release(first);
  EXPECT_EQ(arena->allocate(4096), first);
}

TEST(PayloadArena, NeverHandsOutTheSameByteTwice) {
  constexpr std::size_t kBytes = 4 << 20;
  auto arena = PayloadArena::create(kBytes);
  ASSERT_TRUE(arena);
  const std::uint64_t seed = 20240607;
  SCOPED_TRACE(seed);
  SeededRandom random(seed);
  std::map<std::byte*, std::pair<std::size_t, int>> out;
  int stamp = 0;
  for (int step = 0; step < 20000; ++step) {
    if (out.empty() || random.below(2) == 0) {
      const std::size_t bytes = 1 + random.below(std::uint64_t{1} << random.below(20));
      std::byte* block = arena->allocate(bytes);
      if (block == nullptr) continue;
      stamp = (stamp + 1) % 251;
      std::memset(block, stamp, bytes);
      out[block] = {bytes, stamp};
    } else {
      auto it = out.begin();
      std::advance(it, static_cast<std::ptrdiff_t>(random.below(out.size())));
      const auto [bytes, mark] = it->second;
      EXPECT_EQ(static_cast<int>(it->first[0]), mark);
      EXPECT_EQ(static_cast<int>(it->first[bytes - 1]), mark);
      arena->release(it->first);
      out.erase(it);
    }
  }
  for (auto& [block, unused] : out) arena->release(block);
  EXPECT_EQ(arena->used(), 0U);
  EXPECT_NE(arena->allocate(kBytes), nullptr);
}

}  // namespace
}  // namespace rnbd::nbd
