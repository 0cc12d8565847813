#include "base/histogram.h"

#include <gtest/gtest.h>

#include <thread>

namespace rnbd {
namespace {

using namespace std::chrono_literals;

TEST(LatencyBuckets, FollowEachOtherWithoutGapAndGrowByAnEighth) {
  for (std::size_t i = 0; i + 1 < LatencyBuckets::kCount; ++i) {
    EXPECT_EQ(LatencyBuckets::index(LatencyBuckets::first(i)), i);
    EXPECT_EQ(LatencyBuckets::index(LatencyBuckets::last(i)), i);
    EXPECT_LT(LatencyBuckets::first(i), LatencyBuckets::first(i + 1));
    const std::uint64_t width = LatencyBuckets::last(i) - LatencyBuckets::first(i);
    EXPECT_LE(width * 8, LatencyBuckets::first(i));
  }
}

TEST(LatencyBuckets, ReachBeyondAMinuteAndKeepWhatIsLonger) {
  EXPECT_GT(LatencyBuckets::first(LatencyBuckets::kCount - 1), 60'000'000U);
  EXPECT_EQ(LatencyBuckets::index(~std::uint64_t{0}), LatencyBuckets::kCount - 1);
}

TEST(Histogram, QuantilesAreWithinAnEighthOfTheTruth) {
  Histogram histogram;
  for (int us = 1; us <= 10000; ++us) histogram.add(std::chrono::microseconds(us));
  const LatencyCounts counts = histogram.counts();
  EXPECT_EQ(counts.count(), 10000U);
  EXPECT_EQ(counts.sum(), 50005000us);
  EXPECT_EQ(counts.max(), 10ms);
  const std::pair<double, int> expected[] = {{0.5, 5000}, {0.9, 9000}, {0.99, 9900}, {0.999, 9990}};
  for (const auto& [share, us] : expected) {
    EXPECT_GE(counts.quantile(share), std::chrono::microseconds(us)) << share;
    EXPECT_LE(counts.quantile(share), std::chrono::microseconds(us + us / 8)) << share;
  }
  EXPECT_EQ(counts.quantile(1.0), 10ms);
}

TEST(Histogram, EmptyAnswersZero) {
  const LatencyCounts counts = Histogram().counts();
  EXPECT_EQ(counts.count(), 0U);
  EXPECT_EQ(counts.quantile(0.99), Duration{});
  EXPECT_EQ(counts.max(), Duration{});
}

TEST(Histogram, TakesTimesThatRanBackwardsOrNeverEnded) {
  Histogram histogram;
  histogram.add(-5s);
  histogram.add(1h);
  const LatencyCounts counts = histogram.counts();
  EXPECT_EQ(counts.count(), 2U);
  EXPECT_EQ(counts.quantile(0.5), 0us);
  EXPECT_EQ(counts.quantile(1.0), 1h);
  EXPECT_EQ(counts.sum(), 1h);
}

TEST(LatencyCounts, MergeAddsUpAndKeepsTheLongest) {
  Histogram one, other;
  one.add(10us);
  other.add(3ms);
  other.add(20us);
  LatencyCounts sum = one.counts();
  sum += other.counts();
  EXPECT_EQ(sum.count(), 3U);
  EXPECT_EQ(sum.sum(), 3030us);
  EXPECT_EQ(sum.max(), 3ms);
}

TEST(LatencyCounts, WhatCameBeforeAResetIsTakenBack) {
  Histogram histogram;
  histogram.add(5s);
  const LatencyCounts before = histogram.counts();
  LatencyCounts since = histogram.counts();
  since -= before;
  EXPECT_EQ(since.count(), 0U);
  EXPECT_EQ(since.max(), Duration{});
  histogram.add(100us);
  since = histogram.counts();
  since -= before;
  EXPECT_EQ(since.count(), 1U);
  EXPECT_EQ(since.sum(), 100us);
  EXPECT_GE(since.max(), 100us);
  EXPECT_LE(since.max(), 113us);
  histogram.add(7s);
  since = histogram.counts();
  since -= before;
  EXPECT_EQ(since.max(), 7s);
}

TEST(Histogram, IsReadWhileItIsWritten) {
  Histogram histogram;
  std::thread writer([&] {
    for (int i = 0; i < 20000; ++i) histogram.add(std::chrono::microseconds(i % 100));
  });
  std::uint64_t last = 0;
  while (last < 20000) {
    const std::uint64_t now = histogram.counts().count();
    EXPECT_GE(now, last);
    last = now;
  }
  writer.join();
}

}  // namespace
}  // namespace rnbd
