#include "rnbd/server/geometry.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace rnbd::server {
namespace {

block::Limits disk() {
  block::Limits limits;
  limits.size = 64 << 20;
  limits.max_discard = 1 << 20;
  limits.discard_granularity = 4096;
  limits.discard_alignment = 1024;
  limits.max_write_zeroes = 2 << 20;
  limits.volatile_cache = true;
  limits.fua = true;
  return limits;
}
const GeometryOptions kOptions{.max_io_size = 126976};

TEST(Geometry, TurnsBytesIntoSectors) {
  const auto response = describe(disk(), 7, kOptions);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->device_id, 7U);
  EXPECT_EQ(response->nsectors, 131072U);
  EXPECT_EQ(response->max_hw_sectors, 248U);
  EXPECT_EQ(response->max_discard_sectors, 2048U);
  EXPECT_EQ(response->max_write_zeroes_sectors, 4096U);
  EXPECT_EQ(response->discard_granularity, 4096U);
  EXPECT_EQ(response->discard_alignment, 1024U);
  EXPECT_EQ(response->logical_block_size, 512U);
  EXPECT_EQ(response->physical_block_size, 512U);
  EXPECT_EQ(response->max_segments, 128U);
  EXPECT_EQ(response->secure_discard, 0U);
  EXPECT_EQ(response->cache_policy, wire::kCacheFua | wire::kCacheWriteBack);
}

TEST(Geometry, NeverOffersMoreThanALengthOf32BitsCanAskFor) {
  block::Limits limits = disk();
  limits.logical_block_size = limits.physical_block_size = 4096;
  limits.max_discard = limits.max_write_zeroes = ~std::uint64_t{0};
  const auto response = describe(limits, 0, kOptions);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->max_discard_sectors, 0x7ffff8U);
  EXPECT_EQ(response->max_write_zeroes_sectors, 0x7ffff8U);
}

TEST(Geometry, TheSmallerOfDeviceAndMessageLimitsATransfer) {
  block::Limits limits = disk();
  limits.max_transfer = 65536;
  EXPECT_EQ(describe(limits, 0, kOptions)->max_hw_sectors, 128U);
  limits.max_transfer = 1 << 20;
  EXPECT_EQ(describe(limits, 0, kOptions)->max_hw_sectors, 248U);
}

TEST(Geometry, WriteZeroesCanBeHiddenFromClientsThatWouldMisreadThem) {
  EXPECT_EQ(describe(disk(), 0, {.max_io_size = 126976, .offer_write_zeroes = false})
                ->max_write_zeroes_sectors,
            0U);
}

TEST(Geometry, AnnouncesSecureEraseOnlyUpToWhatDiscardAnnounces) {
  block::Limits limits = disk();
  limits.max_secure_erase = limits.max_discard;
  EXPECT_EQ(describe(limits, 0, kOptions)->secure_discard, 1U);
  limits.max_secure_erase -= 512;
  EXPECT_EQ(describe(limits, 0, kOptions)->secure_discard, 0U);
  limits.max_discard = 0;
  EXPECT_EQ(describe(limits, 0, kOptions)->secure_discard, 0U);
}

TEST(Geometry, RefusesBlocksTheMessageHasNoRoomFor) {
  block::Limits limits = disk();
  limits.logical_block_size = limits.physical_block_size = 65536;
  EXPECT_EQ(describe(limits, 0, kOptions).error(), from_errno(EINVAL));
}

}  // namespace
}  // namespace rnbd::server
