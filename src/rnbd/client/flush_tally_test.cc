#include "rnbd/client/flush_tally.h"

#include <gtest/gtest.h>

namespace rnbd::client {
namespace {

class R9_FlushTallyTest : public ::testing::Test {
 protected:
  R9_FlushTallyTest() {
    tally.watch(one);
    tally.watch(two);
  }
  rtrs::Counter one;
  rtrs::Counter two;
  FlushTally tally;
};

TEST_F(R9_FlushTallyTest, NothingWrittenIsNothingToLose) { EXPECT_FALSE(tally.unflushed()); }

TEST_F(R9_FlushTallyTest, AFlushCoversWhatWasDoneWhenItWasSentOnAnyLane) {
  one.add();
  two.add();
  EXPECT_TRUE(tally.unflushed());
  tally.flushed(tally.changes());
  EXPECT_FALSE(tally.unflushed());
}

TEST_F(R9_FlushTallyTest, AWriteThatEndsDuringAFlushIsNotCovered) {
  one.add();
  const std::uint64_t covered = tally.changes();
  two.add();
  tally.flushed(covered);
  EXPECT_TRUE(tally.unflushed());
}

TEST_F(R9_FlushTallyTest, AnEarlierFlushThatEndsLaterTakesNothingBack) {
  one.add();
  const std::uint64_t early = tally.changes();
  one.add();
  tally.flushed(tally.changes());
  tally.flushed(early);
  EXPECT_FALSE(tally.unflushed());
}

TEST_F(R9_FlushTallyTest, R10_AFailureStays) {
  EXPECT_FALSE(tally.failed());
  tally.fail();
  tally.flushed(tally.changes());
  EXPECT_TRUE(tally.failed());
}

}  // namespace
}  // namespace rnbd::client
