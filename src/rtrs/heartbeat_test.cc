#include "rtrs/heartbeat.h"

#include <gtest/gtest.h>

#include <optional>

#include "fabric/sim/host.h"
#include "fabric/sim/world.h"
#include "rtrs/testing/pair.h"

namespace rnbd::rtrs::testing {
namespace {

// One end whose peer speaks when the test says so.
struct OneEnd final : HeartbeatHandler {
  explicit OneEnd(SimLoop& loop, const HeartbeatOptions& options)
      : loop_(loop), heartbeat(loop, options, *this) {}
  std::uint64_t received_count() const override { return received; }
  void send_heartbeat() override { ++sent; }
  void on_heartbeat_lost() override { lost_at = loop_.now(); }

  SimLoop& loop_;
  Heartbeat heartbeat;
  std::uint64_t received = 0;
  int sent = 0;
  std::optional<TimePoint> lost_at;
};

class HeartbeatTest : public ::testing::Test {
 protected:
  World world{{}};
  SimFabric& fabric = world.add_host("host", 1).add_fabric();
  SimLoop& loop = fabric.sim_loop();
};

TEST_F(HeartbeatTest, OwnPeersAreDeadHalfAnIntervalBeforeTheLimitAtTheLatest) {
  const HeartbeatOptions limit{.interval = 500ms, .missed_max = 3};
  for (Duration last_sign = 0ms; last_sign < 1100ms; last_sign += 37ms) {
    OneEnd end(loop, own_heartbeat(limit));
    const TimePoint start = loop.now();
    end.heartbeat.start();
    world.run_for(last_sign);
    ++end.received;
    ASSERT_TRUE(world.run_until([&] { return end.lost_at.has_value(); }, 10s));
    const Duration silence = *end.lost_at - (start + last_sign);
    EXPECT_LE(silence, 1250ms) << last_sign.count();
    EXPECT_GE(silence, 1000ms) << last_sign.count();
  }
}

TEST_F(HeartbeatTest, TheDerivationKeepsItsBoundsForEveryNumberOfMisses) {
  for (unsigned missed = 2; missed < 9; ++missed) {
    OneEnd end(loop, own_heartbeat({.interval = 200ms, .missed_max = missed}));
    const TimePoint start = loop.now();
    end.heartbeat.start();
    ASSERT_TRUE(world.run_until([&] { return end.lost_at.has_value(); }, 10s));
    EXPECT_LE(*end.lost_at - start, 200ms * missed - 100ms);
    EXPECT_GE(*end.lost_at - start, 200ms * (missed - 1));
  }
  EXPECT_EQ(own_heartbeat({.interval = 200ms, .missed_max = 1}).missed_max, 0U);
  EXPECT_EQ(own_heartbeat({.interval = 200ms, .missed_max = 0}).missed_max, 0U);
}

TEST_F(HeartbeatTest, ARestartCountsFromNowWithTheNewOptions) {
  OneEnd end(loop, {.interval = 5s, .missed_max = 5});
  end.heartbeat.start();
  world.run_for(12s);
  const TimePoint restarted = loop.now();
  end.heartbeat.restart(own_heartbeat(kFastHeartbeat));
  ASSERT_TRUE(world.run_until([&] { return end.lost_at.has_value(); }, 60s));
  EXPECT_LE(*end.lost_at - restarted, 1250ms);
  EXPECT_GE(*end.lost_at - restarted, 1000ms);
}

}  // namespace
}  // namespace rnbd::rtrs::testing
