// The simulator itself: one seed is one history, and the model knows right from wrong.

#include "sim/schedule.h"

#include <gtest/gtest.h>

#include "base/log.h"

namespace rnbd::sim_test {
namespace {

TEST(Schedule, HasTheSameHistoryEachTimeItsSeedIsRun) {
  set_log_options({.program = "sim_test", .level = LogLevel::off});
  std::string found;
  Report report([&found](const std::string& what) { found = what; }, false);
  for (std::uint64_t seed = 100; seed < 130; ++seed) {
    const Outcome first = run_schedule(seed, report, false);
    const Outcome second = run_schedule(seed, report, false);
    EXPECT_EQ(first.trace_hash, second.trace_hash) << "seed " << seed;
    EXPECT_EQ(first.operations, second.operations) << "seed " << seed;
    EXPECT_EQ(found, "") << "seed " << seed;
  }
  set_log_options({});
}

class Model : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kBlocks = 4;
  Model() : report([this](const std::string& what) { found += what + "\n"; }, false) {}
  // Reads block 0, which holds that write (0: zeros).
  void read(WriteId holds, View view = View::lenient) {
    std::vector<std::byte> bytes(kBlock);
    if (holds != 0) model.stamp(holds, bytes);
    model.check_read(model.now(), 0, bytes, view, "test");
  }
  WriteId write(bool fua = false) {
    const WriteId id = model.begin_write(0, 0, 1, false);
    model.write_succeeded(id, fua);
    return id;
  }
  std::string found;
  Report report;
  VolumeModel model{0, kBlocks, report};
};

TEST_F(Model, KnowsAnOlderWriteThatCameBack) {
  const WriteId older = write();
  const WriteId newer = write();
  read(newer);
  EXPECT_EQ(found, "");
  read(older);
  EXPECT_NE(found.find("I1"), std::string::npos);
}

TEST_F(Model, AllowsAnyOrderOfWritesThatOverlapInTimeUntilOneWasSeen) {
  const WriteId one = model.begin_write(0, 0, 1, false);
  const WriteId other = model.begin_write(0, 0, 1, false);
  model.write_succeeded(other, false);
  model.write_succeeded(one, false);
  read(other);
  EXPECT_EQ(found, "");
  read(one);
  EXPECT_NE(found, "");
}

TEST_F(Model, LetsAFailedWriteHappenOnlyUntilALaterOneSucceeded) {
  const WriteId failed = model.begin_write(0, 0, 1, false);
  model.write_failed(failed);
  read(0);
  read(failed);
  EXPECT_EQ(found, "");
  write();
  read(failed);
  EXPECT_NE(found, "");
}

TEST_F(Model, OwesAfterAPowerCutWhatWasFlushedAndNotWhatWasNot) {
  const WriteId flushed = write();
  model.flush_succeeded(model.now());
  const WriteId later = write();
  model.power_lost();
  read(flushed);
  read(later);
  EXPECT_EQ(found, "");
  read(0);
  EXPECT_NE(found, "");
}

TEST_F(Model, OwesADeviceThatNeverFailedEvenWhatWasNotFlushed) {
  const WriteId first = write(true);
  write();
  model.power_lost();
  read(first, View::strict);
  EXPECT_NE(found, "");
}

TEST_F(Model, KnowsBytesOfAnotherBlockAndTornOnes) {
  std::vector<std::byte> bytes(2 * kBlock);
  const WriteId id = model.begin_write(0, 0, 2, false);
  model.stamp(id, bytes);
  model.check_read(model.now(), 0, std::span(bytes).subspan(kBlock), View::lenient, "test");
  EXPECT_NE(found.find("I2"), std::string::npos);
  found.clear();
  bytes[100] = std::byte{1};
  model.check_read(model.now(), 0, bytes, View::lenient, "test");
  EXPECT_NE(found.find("torn"), std::string::npos);
}

}  // namespace
}  // namespace rnbd::sim_test
