#include "fabric/verbs/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <map>

#include "base/random.h"

namespace rnbd::fabric::verbs {
namespace {

class HeapBlock final : public Block {
 public:
  HeapBlock(std::size_t size, int& alive) : bytes_(size), alive_(alive) { ++alive_; }
  ~HeapBlock() override { --alive_; }
  std::span<std::byte> bytes() override { return bytes_; }
  std::uint32_t local_key() const override { return 1; }
  std::uint32_t remote_key() const override { return 2; }
  void* handle() override { return nullptr; }

 private:
  std::vector<std::byte> bytes_;
  int& alive_;
};

class HeapBlocks final : public BlockSource {
 public:
  Result<std::unique_ptr<Block>> make(std::size_t size) override {
    if (alive >= most) return fail_errno(ENOMEM);
    return std::make_unique<HeapBlock>(size, alive);
  }
  int alive = 0;
  int most = 100;
};

TEST(SliceMap, TakesEverythingOnceAndFindsGapsAgain) {
  SliceMap map(200);
  const auto first = map.take(64);
  const auto second = map.take(100);
  const auto third = map.take(36);
  ASSERT_TRUE(first && second && third);
  EXPECT_EQ(map.used(), 200U);
  EXPECT_FALSE(map.take(1));
  map.give_back(*second, 100);
  EXPECT_FALSE(map.take(101));
  EXPECT_EQ(map.take(100), second);
}

TEST(SliceMap, NeighboursJoinAgain) {
  SliceMap map(128);
  std::vector<std::uint32_t> singles;
  for (int i = 0; i < 128; ++i) singles.push_back(*map.take(1));
  for (std::size_t i = 0; i < 128; i += 2) map.give_back(singles[i], 1);
  EXPECT_FALSE(map.take(2));
  for (std::size_t i = 1; i < 128; i += 2) map.give_back(singles[i], 1);
  EXPECT_EQ(map.take(128), 0U);
}

TEST(Arena, SlicesNeverOverlapWhateverTheOrder) {
  HeapBlocks source;
  Arena arena(source, {.granule = 64, .block_size = 64 * 256});
  SeededRandom random(5);
  struct Held {
    Slice slice;
    std::size_t size;
    std::byte mark;
  };
  std::list<Held> held;
  for (int step = 0; step < 20000; ++step) {
    if (random.below(2) == 0 || held.empty()) {
      const std::size_t size = 1 + random.below(random.below(10) == 0 ? 40000 : 500);
      const auto slice = arena.take(size);
      ASSERT_TRUE(slice);
      const auto mark = std::byte(random.next());
      std::fill_n(slice->data, size, mark);
      held.push_back({*slice, size, mark});
    } else {
      auto one = held.begin();
      std::advance(
          one, static_cast<std::ptrdiff_t>(random.below(std::min<std::size_t>(held.size(), 8))));
      ASSERT_TRUE(std::all_of(one->slice.data, one->slice.data + one->size,
                              [&](std::byte b) { return b == one->mark; }));
      arena.give_back(one->slice);
      held.erase(one);
    }
    while (held.size() > 60) {
      arena.give_back(held.front().slice);
      held.pop_front();
    }
  }
}

TEST(Arena, GrowsWhenFullAndForOneLargeSlice) {
  HeapBlocks source;
  Arena arena(source, {.granule = 512, .block_size = 4096});
  EXPECT_EQ(arena.registered(), 0U);
  std::vector<Slice> slices;
  for (int i = 0; i < 16; ++i) slices.push_back(*arena.take(512));
  EXPECT_EQ(source.alive, 2);
  slices.push_back(*arena.take(100'000));
  EXPECT_EQ(source.alive, 3);
  EXPECT_EQ(arena.registered(), 2 * 4096 + 100'352U);
}

TEST(Arena, GivesBackWhatLayIdleForAWholeTurnAndKeepsWhatIsUsed) {
  HeapBlocks source;
  Arena arena(source, {.granule = 512, .block_size = 4096});
  const Slice kept = *arena.take(4096);
  const Slice brief = *arena.take(4096);
  arena.give_back(brief);
  EXPECT_TRUE(arena.trim());
  EXPECT_EQ(source.alive, 2) << "it was used since the last time";
  EXPECT_TRUE(arena.trim());
  EXPECT_EQ(source.alive, 1);
  arena.give_back(kept);
  arena.trim();
  EXPECT_FALSE(arena.trim());
  EXPECT_EQ(source.alive, 0);
  EXPECT_TRUE(arena.take(1));
}

TEST(Arena, SaysWhyItCannotGrowAndWorksOn) {
  HeapBlocks source;
  source.most = 1;
  Arena arena(source, {.granule = 512, .block_size = 4096});
  const Slice all = *arena.take(4096);
  EXPECT_EQ(arena.take(1).error(), from_errno(ENOMEM));
  arena.give_back(all);
  EXPECT_TRUE(arena.take(1));
}

}  // namespace
}  // namespace rnbd::fabric::verbs
