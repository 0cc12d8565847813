#include "fabric/verbs/send_queue.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "base/random.h"

namespace rnbd::fabric::verbs {
namespace {

void keep(const SendQueue::Item&) {}

TEST(SendQueue, TakesAsManyItemsAsItsDepthAndNoMore) {
  SendQueue queue(4, 8, 1, 16);
  EXPECT_TRUE(queue.fits(4));
  EXPECT_FALSE(queue.fits(5));
  for (std::uint64_t i = 1; i <= 3; ++i) queue.push({.cookie = i});
  EXPECT_TRUE(queue.fits(1));
  EXPECT_FALSE(queue.fits(2));
}

TEST(SendQueue, AnItemInPlaceIsDoneWhenALaterOneCompletes) {
  SendQueue queue(4, 8, 1, 16);
  queue.push({.cookie = 1});
  const auto second = queue.push({.cookie = 2});
  queue.settle();
  EXPECT_FALSE(queue.wants_signal(0, false));
  EXPECT_TRUE(queue.wants_signal(second, true));
  EXPECT_EQ(queue.pop_done(), std::nullopt);
  EXPECT_TRUE(queue.retire(second, keep));
  EXPECT_EQ(queue.pop_done(), 1U);
  EXPECT_EQ(queue.pop_done(), 2U);
  EXPECT_EQ(queue.pop_done(), std::nullopt);
  EXPECT_TRUE(queue.idle());
}

TEST(SendQueue, ACopiedItemIsDoneAtOnceAndAsksForNothing) {
  SendQueue queue(4, 8, 1, 16);
  const auto only = queue.push({.cookie = 7, .copied = true});
  queue.settle();
  EXPECT_FALSE(queue.wants_signal(only, true));
  EXPECT_EQ(queue.pop_done(), 7U);
  EXPECT_FALSE(queue.idle());
}

TEST(SendQueue, ACopiedItemBehindOneInPlaceWaitsForIt) {
  SendQueue queue(4, 8, 1, 16);
  queue.push({.cookie = 1});
  const auto last = queue.push({.cookie = 2, .copied = true});
  EXPECT_EQ(queue.pop_done(), std::nullopt);
  queue.retire(last, keep);
  EXPECT_EQ(queue.pop_done(), 1U);
  EXPECT_EQ(queue.pop_done(), 2U);
}

TEST(SendQueue, CopiedItemsStopBeingDoneEarlyWhenSlotsRunOut) {
  SendQueue queue(4, 6, 1, 16);
  std::uint64_t last = 0;
  std::size_t told = 0;
  for (std::uint64_t i = 1; i <= 6; ++i) {
    ASSERT_TRUE(queue.fits(1)) << i;
    last = queue.push({.cookie = i, .copied = true});
    while (queue.pop_done()) ++told;
  }
  EXPECT_EQ(told, 2U);  // six slots, four of which must stay for what may be posted
  EXPECT_FALSE(queue.fits(1));
  EXPECT_TRUE(queue.wants_signal(last, true));
  queue.retire(last, keep);
  while (queue.pop_done()) ++told;
  EXPECT_EQ(told, 6U);
  EXPECT_TRUE(queue.fits(4));
}

TEST(SendQueue, EveryIntervalOneAsksForACompletion) {
  SendQueue queue(100, 200, 1, 16);
  int signalled = 0;
  for (int i = 0; i < 64; ++i) {
    const auto sequence = queue.push({.cookie = 1, .copied = true});
    queue.settle();
    signalled += queue.wants_signal(sequence, false) ? 1 : 0;
    while (queue.pop_done()) {
    }
  }
  EXPECT_EQ(signalled, 4);
}

TEST(SendQueue, StrayCompletionsChangeNothing) {
  SendQueue queue(4, 8, 1, 16);
  EXPECT_FALSE(queue.retire(0, keep));
  const auto first = queue.push({.cookie = 1});
  EXPECT_FALSE(queue.retire(first + 1, keep));
  EXPECT_TRUE(queue.retire(first, keep));
  EXPECT_FALSE(queue.retire(first, keep));
}

TEST(SendQueue, WhatWasNotToldComesBackInOrderAtTheEnd) {
  SendQueue queue(8, 16, 1, 16);
  const auto first = queue.push({.cookie = 1});
  queue.push({.cookie = 0});
  queue.push({.cookie = 3});
  queue.push({.user = false});
  queue.push({.cookie = 4, .copied = true});
  queue.retire(first, keep);
  auto done = queue.pop_any();
  EXPECT_TRUE(done && done->cookie == 1 && done->completed);
  done = queue.pop_any();
  EXPECT_TRUE(done && done->cookie == 3 && !done->completed);
  done = queue.pop_any();
  EXPECT_TRUE(done && done->cookie == 4 && !done->completed);
  EXPECT_FALSE(queue.pop_any());
}

TEST(SendQueue, TakingBackTheNewestUndoesPushing) {
  SendQueue queue(2, 4, 1, 16);
  queue.push({.cookie = 1});
  queue.push({.cookie = 2});
  EXPECT_EQ(queue.pop_newest().cookie, 2U);
  EXPECT_TRUE(queue.fits(1));
  queue.push({.cookie = 3});
  queue.retire(1, keep);
  EXPECT_EQ(queue.pop_done(), 1U);
  EXPECT_EQ(queue.pop_done(), 3U);
}

// A device of exactly the slots the queue promises not to exceed, against random posting (K12).
TEST(SendQueue, NeverOverrunsItsSlotsAndTellsEverythingOnceInOrder) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    SeededRandom random(seed);
    const auto depth = static_cast<std::uint32_t>(1 + random.below(40));
    const auto slots = depth + static_cast<std::uint32_t>(random.below(40));
    constexpr std::uint32_t kOwn = 6;
    SendQueue queue(depth, slots, kOwn, 16);
    std::deque<std::pair<std::uint64_t, bool>> device;  // in flight: number, signalled
    std::uint64_t posted = 0, told = 0;
    for (int step = 0; step < 3000; ++step) {
      std::vector<std::uint64_t> chain;
      for (std::uint64_t batch = random.below(6); batch > 0 && queue.fits(1); --batch)
        chain.push_back(queue.push({.cookie = ++posted, .copied = random.below(2) == 0}));
      if (random.below(4) == 0 && queue.own_room() > 0)
        chain.push_back(queue.push({.user = false}));
      queue.settle();
      for (std::size_t i = 0; i < chain.size(); ++i)
        device.emplace_back(chain[i], queue.wants_signal(chain[i], i + 1 == chain.size()));
      ASSERT_LE(device.size(), slots + kOwn);
      while (const auto cookie = queue.pop_done()) ASSERT_EQ(*cookie, ++told);
      for (std::uint64_t work = random.below(8); work > 0 && !device.empty(); --work) {
        const auto [number, signalled] = device.front();
        device.pop_front();
        if (signalled) {
          ASSERT_TRUE(queue.retire(number, keep));
        }
      }
      // The device's view: what completed without a signal holds its slot until the next signal.
      while (!device.empty() && device.front().first < queue.tail()) device.pop_front();
      while (const auto cookie = queue.pop_done()) ASSERT_EQ(*cookie, ++told);
    }
    // Nothing stays untold for want of a signal.
    while (!device.empty()) {
      if (device.front().second) queue.retire(device.front().first, keep);
      device.pop_front();
    }
    while (const auto cookie = queue.pop_done()) ASSERT_EQ(*cookie, ++told);
    EXPECT_EQ(told, posted);
  }
}

}  // namespace
}  // namespace rnbd::fabric::verbs
