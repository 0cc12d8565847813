#include "frontend/fuse/range_lock.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "base/random.h"

namespace rnbd::fuse {
namespace {

struct Write : RangeLock::Holder {
  Write(std::uint64_t from, std::uint64_t to, bool alone = false) {
    begin = from;
    end = to;
    exclusive = alone;
    granted = [](Holder& holder) { static_cast<Write&>(holder).running = true; };
  }
  bool running = false;
};

TEST(RangeLock, WholeBlockWritesRunTogetherAlsoOnTheSameBlocks) {
  RangeLock lock;
  Write a(0, 8), b(0, 8);
  lock.acquire(a);
  lock.acquire(b);
  EXPECT_TRUE(a.running);
  EXPECT_TRUE(b.running);
}

TEST(RangeLock, AWriteThatReadsFirstIsAloneOnItsBlocks) {
  RangeLock lock;
  Write whole(0, 8), partial(7, 9, true), elsewhere(9, 10), late(8, 9);
  lock.acquire(whole);
  lock.acquire(partial);
  lock.acquire(elsewhere);
  lock.acquire(late);
  EXPECT_FALSE(partial.running);
  EXPECT_TRUE(elsewhere.running);
  EXPECT_FALSE(late.running);  // it came behind one that waits for the same block
  lock.release(whole);
  EXPECT_TRUE(partial.running);
  EXPECT_FALSE(late.running);
  lock.release(partial);
  EXPECT_TRUE(late.running);
  lock.release(late);
  lock.release(elsewhere);
  EXPECT_TRUE(lock.idle());
}

TEST(RangeLock, GrantsOneOfTwoThatWaitForTheSameBlock) {
  RangeLock lock;
  Write first(0, 1, true), second(0, 1, true), third(0, 1, true);
  lock.acquire(first);
  lock.acquire(second);
  lock.acquire(third);
  lock.release(first);
  EXPECT_TRUE(second.running);
  EXPECT_FALSE(third.running);
  lock.release(second);
  EXPECT_TRUE(third.running);
}

TEST(RangeLock, NeverRunsConflictingWritesTogetherAndForgetsNone) {
  const std::uint64_t seed = 99;
  SCOPED_TRACE(seed);
  SeededRandom random(seed);
  RangeLock lock;
  std::vector<std::unique_ptr<Write>> writes;
  for (int step = 0; step < 5000; ++step) {
    if (writes.size() < 20 && random.below(2) == 0) {
      const std::uint64_t from = random.below(16);
      writes.push_back(
          std::make_unique<Write>(from, from + 1 + random.below(4), random.below(3) == 0));
      lock.acquire(*writes.back());
    } else {
      for (std::size_t i = 0; i < writes.size(); ++i) {
        if (!writes[i]->running || random.below(3) != 0) continue;
        lock.release(*writes[i]);
        writes.erase(writes.begin() + static_cast<std::ptrdiff_t>(i));
        break;
      }
    }
    bool any = false;
    for (const auto& a : writes) {
      any = any || a->running;
      for (const auto& b : writes) {
        if (a == b || !a->running || !b->running || (!a->exclusive && !b->exclusive)) continue;
        ASSERT_TRUE(a->end <= b->begin || b->end <= a->begin);
      }
    }
    ASSERT_TRUE(any || writes.empty());
  }
}

}  // namespace
}  // namespace rnbd::fuse
