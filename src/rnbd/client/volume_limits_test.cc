#include "rnbd/client/volume_limits.h"

#include <gtest/gtest.h>

namespace rnbd::client {
namespace {

const rtrs::SessionLimits kSession{.queue_depth = 32, .max_io_size = 126976, .max_hdr_size = 4096};

wire::OpenResponse disk() {
  wire::OpenResponse response;
  response.nsectors = 131072;
  response.max_discard_sectors = 0x7fffff;
  response.discard_granularity = 4096;
  response.max_write_zeroes_sectors = 0xff;
  response.cache_policy = wire::kCacheFua | wire::kCacheWriteBack;
  return response;
}

TEST(VolumeLimits, TurnSectorsIntoBytesAndHideTheLimitsOfTheWire) {
  const auto limits = volume_limits(disk(), kSession, false);
  ASSERT_TRUE(limits);
  EXPECT_EQ(limits->shown.size, 64U << 20);
  EXPECT_EQ(limits->shown.max_transfer, 0U);
  EXPECT_GT(limits->shown.max_discard, limits->shown.size);
  EXPECT_TRUE(limits->shown.volatile_cache);
  EXPECT_TRUE(limits->shown.fua);
  EXPECT_EQ(limits->shown.max_secure_erase, 0U);
  EXPECT_EQ(limits->wire.max_transfer, 126976U);
  EXPECT_EQ(limits->wire.max_discard, 0xfffffe00U);
  EXPECT_EQ(limits->wire.max_write_zeroes, 255U * 512);
  EXPECT_TRUE(limits->wire.fua);
}

TEST(VolumeLimits, CutOperationsInWholeBlocks) {
  wire::OpenResponse response = disk();
  response.logical_block_size = response.physical_block_size = 4096;
  response.max_discard_sectors = 0xffffffff;  // as kernel servers say for RAM disks
  response.secure_discard = 1;
  const auto limits =
      volume_limits(response, {.queue_depth = 2, .max_io_size = 10000, .max_hdr_size = 4096}, true);
  ASSERT_TRUE(limits);
  EXPECT_EQ(limits->wire.max_transfer, 8192U);
  EXPECT_EQ(limits->wire.max_discard, 0xfffff000U);
  EXPECT_EQ(limits->wire.max_secure_erase, 0xfffff000U);
  EXPECT_EQ(limits->wire.max_write_zeroes, 31U * 4096);
  EXPECT_TRUE(limits->shown.read_only);
}

TEST(VolumeLimits, FuaCountsOnlyTogetherWithACache) {
  wire::OpenResponse response = disk();
  response.cache_policy = wire::kCacheFua;
  EXPECT_FALSE(volume_limits(response, kSession, false)->wire.fua);
  EXPECT_FALSE(volume_limits(response, kSession, false)->shown.volatile_cache);
}

TEST(VolumeLimits, S16_RefuseASessionThatCannotCarryOurMessages) {
  for (const rtrs::SessionLimits& session :
       {rtrs::SessionLimits{0, 126976, 4096}, rtrs::SessionLimits{32, 0, 4096},
        rtrs::SessionLimits{32, 1, 4096}, rtrs::SessionLimits{32, 126976, 0},
        rtrs::SessionLimits{32, 126976, 287}}) {
    EXPECT_FALSE(volume_limits(disk(), session, false));
  }
  EXPECT_TRUE(volume_limits(disk(), {32, 4096, 288}, false));
  wire::OpenResponse response = disk();
  response.logical_block_size = response.physical_block_size = 8192;
  EXPECT_FALSE(volume_limits(response, {32, 4096, 288}, false)) << "a block does not fit a message";
}

TEST(VolumeLimits, S16_ADeviceThatComesBackDifferentIsNotTheSame) {
  const block::Limits before = volume_limits(disk(), kSession, false)->shown;
  block::Limits now = before;
  EXPECT_FALSE(check_reopened(before, now));
  now.size += 512;
  EXPECT_FALSE(check_reopened(before, now)) << "it may grow";
  now.size = before.size - 512;
  EXPECT_TRUE(check_reopened(before, now));
  now = before;
  now.logical_block_size = 4096;
  EXPECT_TRUE(check_reopened(before, now));
  now = before;
  now.volatile_cache = false;
  EXPECT_FALSE(check_reopened(before, now)) << "it may lose its cache";
  EXPECT_TRUE(check_reopened(now, before)) << "it may not get one behind the back of its users";
}

}  // namespace
}  // namespace rnbd::client
