#include "rnbd/server/range_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "base/random.h"

namespace rnbd::server {
namespace {

RangeOrder::Node range(std::uint64_t begin, std::uint64_t end) {
  RangeOrder::Node node;
  node.begin = begin;
  node.end = end;
  return node;
}

TEST(RangeOrder, LetsRangesThatOnlyTouchRunTogether) {
  RangeOrder order;
  auto a = range(0, 10), b = range(10, 20), c = range(20, 30);
  EXPECT_TRUE(order.enter(b));
  EXPECT_TRUE(order.enter(a));
  EXPECT_TRUE(order.enter(c));
  EXPECT_EQ(order.leave(b), nullptr);
  EXPECT_EQ(order.leave(a), nullptr);
  EXPECT_EQ(order.leave(c), nullptr);
}

TEST(RangeOrder, R3_MakesAnOverlappingRangeWaitInOrderOfArrival) {
  RangeOrder order;
  auto first = range(0, 100), second = range(50, 60), third = range(55, 200),
       apart = range(300, 400);
  EXPECT_TRUE(order.enter(first));
  EXPECT_FALSE(order.enter(second));
  EXPECT_FALSE(order.enter(third));
  EXPECT_TRUE(order.enter(apart));
  EXPECT_EQ(order.leave(apart), nullptr);
  EXPECT_EQ(order.leave(first), &second);
  EXPECT_EQ(second.next, nullptr);
  EXPECT_EQ(order.leave(second), &third);
  EXPECT_EQ(order.leave(third), nullptr);
}

TEST(RangeOrder, R3_AWaitingRangeBlocksLaterOnesToo) {
  RangeOrder order;
  auto running = range(0, 10), waiting = range(5, 20), later = range(15, 30);
  EXPECT_TRUE(order.enter(running));
  EXPECT_FALSE(order.enter(waiting));
  EXPECT_FALSE(order.enter(later)) << "overlaps only what waits";
  EXPECT_EQ(order.leave(running), &waiting);
  EXPECT_EQ(order.leave(waiting), &later);
  order.leave(later);
}

TEST(RangeOrder, ReleasesSeveralWaitersOldestFirst) {
  RangeOrder order;
  auto all = range(0, 1000), high = range(900, 910), low = range(1, 2), middle = range(500, 501);
  order.enter(all);
  order.enter(high);
  order.enter(low);
  order.enter(middle);
  RangeOrder::Node* ready = order.leave(all);
  EXPECT_EQ(ready, &high);
  EXPECT_EQ(ready->next, &low);
  EXPECT_EQ(ready->next->next, &middle);
  for (auto* node : {&high, &low, &middle}) order.leave(*node);
}

// Against a plain list: the same decisions for a long random run.
TEST(RangeOrder, AgreesWithTheObviousModel) {
  struct Item {
    RangeOrder::Node node;
    bool running = false;
  };
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SeededRandom random(seed);
    RangeOrder order;
    std::deque<std::unique_ptr<Item>> items;  // in order of arrival
    const auto overlaps = [](const Item& a, const Item& b) {
      return a.node.begin < b.node.end && b.node.begin < a.node.end;
    };
    const auto may_run = [&](std::size_t index) {
      return std::none_of(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(index),
                          [&](auto& earlier) { return overlaps(*earlier, *items[index]); });
    };
    for (int step = 0; step < 4000 || !items.empty(); ++step) {
      if (step < 4000 && items.size() < 64 && random.below(2) == 0) {
        auto item = std::make_unique<Item>();
        item->node.begin = random.below(400);
        item->node.end = item->node.begin + 1 + random.below(random.below(8) == 0 ? 400 : 12);
        items.push_back(std::move(item));
        items.back()->running = order.enter(items.back()->node);
        ASSERT_EQ(items.back()->running, may_run(items.size() - 1)) << "seed " << seed;
      } else if (!items.empty()) {
        std::size_t index = random.below(items.size());
        while (!items[index]->running) index = (index + 1) % items.size();
        const auto victim = std::move(items[index]);
        items.erase(items.begin() + static_cast<std::ptrdiff_t>(index));
        std::vector<RangeOrder::Node*> ready;
        for (auto* node = order.leave(victim->node); node != nullptr; node = node->next)
          ready.push_back(node);
        for (std::size_t i = 0; i < items.size(); ++i) {
          const bool released =
              std::find(ready.begin(), ready.end(), &items[i]->node) != ready.end();
          ASSERT_EQ(released, !items[i]->running && may_run(i)) << "seed " << seed;
          items[i]->running = items[i]->running || released;
        }
      }
    }
  }
}

}  // namespace
}  // namespace rnbd::server
