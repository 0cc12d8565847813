#include "daemon/admin/stages.h"

#include <gtest/gtest.h>

#include <numeric>

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

TEST(Stages, EveryRequestIsInTheBucketOfItsPowerOfTwo) {
  Histogram histogram;
  for (const Duration time : {Duration(999ns), Duration(1us), Duration(3us), Duration(8us),
                              Duration(15us), Duration(16us), Duration(1000us)})
    histogram.add(time);
  const StageView view = stage_view("wire", histogram.counts());
  //                                               <1 <2 <4 <8 <16 <32         … <1024
  EXPECT_EQ(view.buckets, (std::vector<std::uint64_t>{1, 1, 1, 0, 2, 1, 0, 0, 0, 0, 1}));
  EXPECT_EQ(view.count, 7U);
}

TEST(Stages, WhatTookHoursIsInTheLastBucketAndNothingIsInNone) {
  EXPECT_TRUE(stage_view("wire", Histogram().counts()).buckets.empty());
  Histogram histogram;
  histogram.add(60s);
  histogram.add(10h);
  const auto buckets = stage_view("wire", histogram.counts()).buckets;
  EXPECT_EQ(buckets.size(), 27U);
  EXPECT_EQ(buckets.back(), 2U);
}

}  // namespace
}  // namespace rnbd::daemon
