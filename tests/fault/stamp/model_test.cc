#include "stamp/model.h"

#include <gmock/gmock.h>

#include <array>
#include <sstream>

namespace rnbd::fault {
namespace {

using testing::HasSubstr;
using testing::Optional;

constexpr std::uint64_t kRun = 7;
using Bytes = std::array<std::byte, 4096>;

Bytes stamped(const StampKey& key) {
  Bytes bytes;
  stamp_block(bytes, key);
  return bytes;
}
Bytes zeros() { return {}; }
Bytes torn(const Bytes& first, const Bytes& second) {
  Bytes bytes = second;
  std::copy_n(first.begin(), 2048, bytes.begin());
  return bytes;
}

struct OneDevice : testing::Test {
  Model model{kRun, 1, 8};

  Bytes write(bool succeed = true, bool fua = false) {
    const Bytes bytes = stamped(model.begin_change(3, Change::write));
    succeed ? model.change_succeeded(3, fua) : model.change_failed(3);
    return bytes;
  }
  void zero(Change change) {
    model.begin_change(3, change);
    model.change_succeeded(3, false);
  }
  std::optional<std::string> read(const Bytes& bytes) {
    return model.judge(3, model.begin_read(3), bytes);
  }
};

TEST_F(OneDevice, TheLastWriteIsRightAndTheOneBeforeIsStale) {
  const Bytes first = write();
  const Bytes second = write();
  EXPECT_EQ(read(second), std::nullopt);
  EXPECT_THAT(read(first), Optional(HasSubstr("stale")));
}

TEST_F(OneDevice, AStaleBlockIsCaughtWithoutAnyReadBefore) {
  const Bytes first = write();
  write();
  EXPECT_THAT(read(first), Optional(HasSubstr("stale: shows 1, must be 2")));
}

TEST_F(OneDevice, WhileAWriteIsUnderWayBothStatesAndAMixAreRight) {
  const Bytes first = write();
  const Bytes second = stamped(model.begin_change(3, Change::write));
  EXPECT_EQ(read(first), std::nullopt);
  EXPECT_EQ(read(torn(first, second)), std::nullopt);
  EXPECT_EQ(read(second), std::nullopt);
}

TEST_F(OneDevice, WhatWasSeenOnceDoesNotGoBack) {
  const Bytes first = write();
  const Bytes second = stamped(model.begin_change(3, Change::write));
  EXPECT_EQ(read(second), std::nullopt);
  EXPECT_THAT(read(first), Optional(HasSubstr("stale")));
}

TEST_F(OneDevice, AReadIsJudgedByTheFloorOfItsIssue) {
  const Bytes first = write();
  const std::uint64_t floor = model.begin_read(3);
  write();
  EXPECT_EQ(model.judge(3, floor, first), std::nullopt);
  EXPECT_THAT(read(first), Optional(HasSubstr("stale")));
}

TEST_F(OneDevice, ATornBlockAtRestIsCaught) {
  const Bytes first = write();
  const Bytes second = write();
  EXPECT_THAT(read(torn(second, first)), Optional(HasSubstr("sector 4: stale")));
}

TEST_F(OneDevice, AFailedWriteMayBeSeenOrNotUntilALaterOneSucceeded) {
  const Bytes first = write();
  const Bytes failed = write(false);
  EXPECT_EQ(read(first), std::nullopt);
  EXPECT_EQ(read(failed), std::nullopt);
  const Bytes third = write();
  EXPECT_EQ(read(third), std::nullopt);
  EXPECT_THAT(read(failed), Optional(HasSubstr("stale")));
}

TEST_F(OneDevice, OfTwoFailedWritesTheOlderMayNotFollowTheNewer) {
  write();
  const Bytes older = write(false);
  const Bytes newer = write(false);
  EXPECT_EQ(read(older), std::nullopt);
  EXPECT_EQ(read(newer), std::nullopt);
  EXPECT_THAT(read(older), Optional(HasSubstr("stale")));
}

TEST_F(OneDevice, ASequenceNeverWrittenIsCaught) {
  write();
  EXPECT_THAT(read(stamped({kRun, 1, 3, 2})), Optional(HasSubstr("never written")));
}

TEST_F(OneDevice, BytesOfAnotherDeviceOrBlockAreCaughtEvenWhereNothingIsKnown) {
  EXPECT_THAT(read(stamped({kRun, 2, 3, 1})), Optional(HasSubstr("bytes of device 2")));
  EXPECT_THAT(read(stamped({kRun, 1, 4, 1})), Optional(HasSubstr("bytes of block 4")));
}

TEST_F(OneDevice, WhereNothingIsKnownOlderBytesAreRightAndLaterTheyAreNot) {
  const Bytes before = stamped({kRun + 1, 1, 3, 99});
  EXPECT_EQ(read(before), std::nullopt);
  EXPECT_EQ(read(zeros()), std::nullopt);
  write();
  EXPECT_THAT(read(before), Optional(HasSubstr("another run")));
  EXPECT_THAT(read(zeros()), Optional(HasSubstr("zeros where 1")));
}

TEST_F(OneDevice, ADamagedBlockIsCaught) {
  Bytes bytes = write();
  bytes[700] ^= std::byte{1};
  EXPECT_THAT(read(bytes), Optional(HasSubstr("sector 1: damaged")));
}

TEST_F(OneDevice, SectorsInAnotherOrderAreCaught) {
  const Bytes bytes = write();
  Bytes mixed = bytes;
  std::copy_n(bytes.begin() + 512, 512, mixed.begin());
  EXPECT_THAT(read(mixed), Optional(HasSubstr("sector 0: damaged")));
}

TEST_F(OneDevice, ZeroesAreAStateLikeAnyOther) {
  const Bytes first = write();
  zero(Change::zeroes);
  EXPECT_EQ(read(zeros()), std::nullopt);
  EXPECT_THAT(read(first), Optional(HasSubstr("stale")));
  write();
  EXPECT_THAT(read(zeros()), Optional(HasSubstr("zeros where 3")));
}

TEST_F(OneDevice, ATrimLeavesZerosOrWhatWasThereButNotBoth) {
  const Bytes first = write();
  zero(Change::trim);
  EXPECT_EQ(read(first), std::nullopt);
  EXPECT_EQ(read(zeros()), std::nullopt);
  EXPECT_THAT(read(first), Optional(HasSubstr("stale")));
}

TEST_F(OneDevice, APowerCutMayTakeWhatWasNotFlushed) {
  const Bytes first = write();
  model.flush_succeeded(model.begin_flush());
  const Bytes second = write();
  model.power_lost();
  EXPECT_EQ(read(first), std::nullopt);
  EXPECT_EQ(read(second), std::nullopt);
  EXPECT_THAT(read(zeros()), Optional(HasSubstr("zeros where 2")));
}

TEST_F(OneDevice, APowerCutDoesNotTakeWhatWasFlushedOrWrittenWithFua) {
  const Bytes first = write();
  const Bytes second = write(true, true);
  model.power_lost();
  EXPECT_THAT(read(first), Optional(HasSubstr("stale")));
  EXPECT_EQ(read(second), std::nullopt);
  const Bytes third = write();
  model.flush_succeeded(model.begin_flush());
  model.power_lost();
  EXPECT_THAT(read(second), Optional(HasSubstr("stale")));
  EXPECT_EQ(read(third), std::nullopt);
}

TEST_F(OneDevice, AFlushPromisesNothingThatSucceededAfterItsIssue) {
  const Bytes first = write();
  const auto flush = model.begin_flush();
  write();
  model.flush_succeeded(flush);
  model.power_lost();
  EXPECT_EQ(read(first), std::nullopt);
}

TEST_F(OneDevice, ZeroesBeforeAnUnflushedWriteMayComeBackAfterAPowerCut) {
  zero(Change::zeroes);
  model.flush_succeeded(model.begin_flush());
  write();
  EXPECT_THAT(read(zeros()), Optional(HasSubstr("zeros where 2")));
  model.power_lost();
  EXPECT_EQ(read(zeros()), std::nullopt);
}

TEST_F(OneDevice, ASavedStateJudgesAsTheOneItWas) {
  const Bytes first = write();
  zero(Change::zeroes);
  const Bytes failed = write(false);
  std::stringstream file;
  model.save(file);
  Model later{kRun, 1, 8};
  ASSERT_TRUE(later.load(file));
  EXPECT_THAT(later.judge(3, later.begin_read(3), first), Optional(HasSubstr("stale")));
  EXPECT_EQ(later.judge(3, later.begin_read(3), zeros()), std::nullopt);
  EXPECT_EQ(later.judge(3, later.begin_read(3), failed), std::nullopt);
  EXPECT_EQ(later.begin_change(3, Change::write).sequence, 4U);
}

TEST_F(OneDevice, AStateOfAnotherDeviceOrSizeIsRefused) {
  std::stringstream file;
  model.save(file);
  Model other{kRun, 2, 8};
  EXPECT_FALSE(other.load(file));
  file.clear();
  file.seekg(0);
  Model longer{kRun, 1, 9};
  EXPECT_FALSE(longer.load(file));
}

}  // namespace
}  // namespace rnbd::fault
