// A session of ours with a server of ours when the network or a machine fails.

#include <gtest/gtest.h>

#include "rtrs/testing/pair.h"

namespace rnbd::rtrs::testing {
namespace {

PairOptions many_loops() {
  PairOptions options;
  options.client_loops = 3;
  options.server_loops = 2;
  return options;
}

// Requests that take a while, on all lanes.
std::vector<std::unique_ptr<Io>> start_load(Pair& pair, std::size_t per_lane,
                                            std::uint32_t delay_us) {
  std::vector<std::unique_ptr<Io>> ios;
  for (std::size_t lane = 0; lane < pair.session().lane_count(); ++lane) {
    for (std::size_t i = 0; i < per_lane; ++i) {
      const auto way = i % 2 == 0 ? Direction::read : Direction::write;
      ios.push_back(std::make_unique<Io>(way, ios.size() * 4096, 4096, 0, delay_us));
      pair.submit(*ios.back(), lane);
    }
  }
  return ios;
}

bool all_done(const std::vector<std::unique_ptr<Io>>& ios) {
  return std::ranges::all_of(ios, [](const auto& io) { return io->completions > 0; });
}

void expect_each_once_and_untouched(const std::vector<std::unique_ptr<Io>>& ios) {
  for (const auto& io : ios) {
    EXPECT_EQ(io->completions, 1);
    EXPECT_FALSE(io->changed_after_completion());
    EXPECT_TRUE(io->guards_intact());
  }
}

bool wait_connected(Pair& pair, int times) {
  return pair.world().run_until([&] { return pair.connects_ >= times && pair.connected(); }, 120s);
}

TEST(Failure, ResetAtAnyMomentOfEstablishmentFailsOpenAndLeavesNothing) {
  int failed = 0;
  for (int step = 0; step < 120; ++step) {
    auto options = many_loops();
    options.world.seed = static_cast<std::uint64_t>(step + 1);
    Pair pair(options);
    pair.start();
    pair.world().at(step * 10us, [&] { pair.link().reset(); });
    ASSERT_TRUE(pair.world().run_until([&] { return pair.connects_ > 0 || pair.closed_; }, 60s));
    pair.world().run_for(step * 10us);  // past the reset
    if (pair.closed_) {
      ++failed;
      EXPECT_TRUE(pair.why_closed_);
      EXPECT_NE(pair.why_closed_, Errc::session_closed);
    }
    pair.close();
    ASSERT_TRUE(pair.world().run_until([&] { return !pair.session_alive(); }, 60s));
    ASSERT_TRUE(pair.world().run_until([&] { return pair.store().live().empty(); }, 60s));
    pair.closed_ = pair.closing_ = false;
    pair.connects_ = pair.disconnects_ = 0;
    // The machine is as good as new: the same name connects again.
    ASSERT_TRUE(pair.open()) << step;
    EXPECT_TRUE(pair.store().mistakes().empty());
  }
  EXPECT_GT(failed, 10);  // most; a reset that looks like a refused name is tried again
}

TEST(Failure, CloseAtAnyMomentOfEstablishmentEndsCleanly) {
  for (int step = 0; step < 120; ++step) {
    auto options = many_loops();
    options.world.seed = static_cast<std::uint64_t>(step + 1);
    Pair pair(options);
    pair.start();
    pair.world().run_for(step * 10us);
    ASSERT_TRUE(pair.close_and_wait());
    EXPECT_EQ(pair.why_closed_, Errc::session_closed);
    EXPECT_TRUE(pair.world().run_until(
        [&] { return pair.store().live().empty() && pair.link().connections() == 0; }, 60s));
  }
}

TEST(Failure, ServerStopAtAnyMomentEndsEveryRequestOnce) {
  for (int step = 0; step < 120; ++step) {
    auto options = many_loops();
    options.world.seed = static_cast<std::uint64_t>(step + 1);
    Pair pair(options);
    pair.start();
    std::vector<std::unique_ptr<Io>> ios;
    pair.world().at(600us, [&] {
      if (pair.session_alive()) ios = start_load(pair, 8, 50);
    });
    pair.world().run_for(step * 10us);
    ASSERT_TRUE(pair.stop_server_and_wait());
    ASSERT_TRUE(pair.world().run_until(
        [&] { return all_done(ios) && pair.world().elapsed() > 700us; }, 60s));
    expect_each_once_and_untouched(ios);
  }
}

TEST(Failure, RequestsInFlightEndWithPathLostAndThePathComesBack) {
  Pair pair(many_loops());
  ASSERT_TRUE(pair.open());
  auto ios = start_load(pair, 6, 500);
  pair.world().run_for(200us);
  pair.link().reset();
  ASSERT_TRUE(pair.world().run_until([&] { return all_done(ios); }, 60s));
  expect_each_once_and_untouched(ios);
  EXPECT_TRUE(
      std::ranges::any_of(ios, [](const auto& io) { return io->result == Errc::path_lost; }));
  for (const auto& io : ios) {
    EXPECT_TRUE(!io->result || io->result == Errc::path_lost || io->result == from_errno(ENOTCONN));
  }
  ASSERT_TRUE(wait_connected(pair, 2));
  EXPECT_EQ(pair.disconnects_, 1);
  EXPECT_EQ(pair.session().paths()[0].reconnects, 1U);
  Io write(Direction::write, 5, 5000);
  EXPECT_FALSE(pair.run(write, 2));
  EXPECT_EQ(pair.store().opened(), 2U);
  EXPECT_EQ(pair.store().closed(), 1U);
  EXPECT_TRUE(pair.store().mistakes().empty());
}

TEST(Failure, OneDeadConnectionTakesTheWholePath) {
  for (std::size_t nth = 0; nth < 4; ++nth) {
    Pair pair(many_loops());
    ASSERT_TRUE(pair.open());
    auto ios = start_load(pair, 2, 500);
    pair.world().run_for(100us);
    ASSERT_TRUE(pair.link().reset_one(nth));
    ASSERT_TRUE(pair.world().run_until([&] { return all_done(ios); }, 60s));
    expect_each_once_and_untouched(ios);
    ASSERT_TRUE(wait_connected(pair, 2));
  }
}

TEST(Failure, WithoutAPathRequestsAreRefusedFromTheLoop) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  pair.link().cut();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 10s));
  EXPECT_FALSE(pair.lane().connected());
  Io io(Direction::write, 0, 10);
  pair.on_loop(pair.client_fabric().sim_loop(), [&] {
    pair.lane().submit(io);
    EXPECT_EQ(io.completions, 0);
  });
  ASSERT_TRUE(pair.world().run_until([&] { return io.completions == 1; }, 1s));
  EXPECT_EQ(io.result, from_errno(ENOTCONN));
  pair.link().heal();
  ASSERT_TRUE(wait_connected(pair, 2));
  EXPECT_FALSE(pair.run(io));
}

TEST(Failure, CloseWithRequestsInFlightEndsThemWithSessionClosedOrTheirAnswer) {
  Pair pair(many_loops());
  ASSERT_TRUE(pair.open());
  auto ios = start_load(pair, 12, 300);
  pair.world().run_for(250us);
  ASSERT_TRUE(pair.close_and_wait());
  EXPECT_TRUE(all_done(ios));
  for (const auto& io : ios)
    EXPECT_TRUE(!io->result || io->result == Errc::session_closed) << io->result.message();
  pair.world().run_for(1s);
  expect_each_once_and_untouched(ios);
  EXPECT_TRUE(pair.store().mistakes().empty());
}

TEST(FailureCases, S26_R6_ReconnectIsRefusedUntilTheHandlerHasAnsweredEverything) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io slow(Direction::write, 0, 100, 0, 2'000'000);
  pair.submit(slow);
  pair.world().run_for(1ms);
  pair.link().reset();
  ASSERT_TRUE(pair.world().run_until([&] { return slow.completions == 1; }, 10s));
  // Lost is lost at once; but the way back is shut while the write may still take effect.
  const auto lost_at = pair.world().elapsed();
  EXPECT_LT(lost_at, 1s);
  ASSERT_TRUE(wait_connected(pair, 2));
  EXPECT_GT(pair.world().elapsed(), 2s);
  EXPECT_EQ(pair.store().running(), 0U);
  EXPECT_GT(pair.session().paths()[0].reconnect_failures, 0U);
}

TEST(Failure, R6_ReconnectIsRefusedUntilTheHandlerReleasedTheSession) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  pair.store().hold_release(true);
  pair.link().reset();
  pair.world().run_for(5s);
  EXPECT_EQ(pair.connects_, 1);
  EXPECT_EQ(pair.store().closed(), 1U);
  pair.store().hold_release(false);
  pair.on_loop(pair.server_fabric().sim_loop(), [&] { pair.store().release_held(); });
  ASSERT_TRUE(wait_connected(pair, 2));
}

TEST(Failure, ServerCrashAndReturnBringsTheSessionBack) {
  Pair pair(many_loops());
  ASSERT_TRUE(pair.open());
  auto ios = start_load(pair, 4, 400);
  pair.world().run_for(200us);
  ASSERT_TRUE(pair.crash_server());
  ASSERT_TRUE(pair.world().run_until([&] { return all_done(ios); }, 60s));
  expect_each_once_and_untouched(ios);
  ASSERT_TRUE(wait_connected(pair, 2));
  Io io(Direction::read, 0, 4096);
  EXPECT_FALSE(pair.run(io));
}

TEST(FailureCases, S27_K18_AChangedQueueDepthEndsTheSession) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  ASSERT_TRUE(pair.stop_server_and_wait());
  pair.options().server.queue_depth = 32;
  pair.start_server();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.closed_; }, 120s));
  EXPECT_EQ(pair.why_closed_, Errc::queue_depth_changed);
}

TEST(Failure, K18_SmallerSizesAfterReconnectAreObeyed) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  ASSERT_TRUE(pair.stop_server_and_wait());
  pair.options().server.max_chunk_size = 8192;
  pair.start_server();
  ASSERT_TRUE(wait_connected(pair, 2));
  EXPECT_EQ(pair.session().limits().max_io_size, 4096U);
  Io big(Direction::write, 0, 4097);
  EXPECT_EQ(pair.run(big), Errc::too_long);
  Io fits(Direction::write, 0, 4096);
  EXPECT_FALSE(pair.run(fits));
}

TEST(Failure, GivesUpAfterTheAttemptsAllowed) {
  PairOptions options;
  options.session.max_reconnect_attempts = 3;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  pair.link().cut();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.closed_; }, 300s));
  EXPECT_EQ(pair.disconnects_, 1);
  EXPECT_NE(pair.why_closed_, Errc::session_closed);
}

TEST(Failure, RetryDelayDoublesUpToItsMaximum) {
  PairOptions options;
  options.session.reconnect_delay = 1s;
  options.session.reconnect_delay_max = 4s;
  options.session.connect_timeout = 100ms;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  pair.link().cut();
  pair.world().run_for(60s);
  const auto failures = pair.session().paths()[0].reconnect_failures;
  EXPECT_GE(failures, 11U);  // 1/8, 1, 2, then every 4 to 5 seconds
  EXPECT_LE(failures, 17U);
  pair.link().heal();
  EXPECT_TRUE(wait_connected(pair, 2));
}

TEST(FailureCases, C12_NobodyListeningFailsOpenWithAReason) {
  Pair pair;
  ASSERT_TRUE(pair.stop_server_and_wait());
  EXPECT_FALSE(pair.open());
  EXPECT_TRUE(pair.closed_);
  EXPECT_TRUE(pair.why_closed_);
  EXPECT_LT(pair.world().elapsed(), 10s);
}

TEST(Failure, ADeadAddressFailsOpenInTheConnectTimeout) {
  PairOptions options;
  options.session.connect_timeout = 2s;
  Pair pair(options);
  pair.link().black_hole();
  EXPECT_FALSE(pair.open());
  EXPECT_EQ(to_errno(pair.why_closed_), ETIMEDOUT);
  EXPECT_LT(pair.world().elapsed(), 3s);
}

TEST(FailureCases, C15_TwoSessionsOfOneNameAreRefusedTheSecond) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  struct Second : client::SessionHandler {
    void on_session_connected() override { ADD_FAILURE(); }
    void on_session_disconnected(std::error_code) override { ADD_FAILURE(); }
    void on_session_closed(std::error_code error) override { why = error; }
    std::error_code why;
  } second;
  SeededRandom random(7);
  fabric::Fabric* fabric = &pair.client_fabric();
  client::SessionOptions options;
  options.name = "test";
  options.paths = {{{}, pair.server_address()}};
  options.name_patience = {};
  auto session = client::Session::create({&fabric, 1}, 0, random, second, options);
  ASSERT_TRUE(session);
  pair.on_loop(pair.client_fabric().sim_loop(), [&] { (*session)->open(); });
  ASSERT_TRUE(pair.world().run_until([&] { return bool{second.why}; }, 10s));
  EXPECT_EQ(second.why, Errc::session_refused);
  EXPECT_TRUE(pair.connected());
}

// ---- Heartbeats ----

TEST(Heartbeats, KeepAnIdlePathUpAndMeasureItsLatency) {
  Pair pair(many_loops());
  ASSERT_TRUE(pair.open());
  pair.world().run_for(300s);
  EXPECT_TRUE(pair.connected());
  EXPECT_EQ(pair.connects_, 1);
  EXPECT_GT(pair.session().paths()[0].latency, Duration::zero());
  EXPECT_LT(pair.session().paths()[0].latency, 20ms);
}

TEST(Heartbeats, FindASilentServerWithin30To35Seconds) {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    PairOptions options;
    options.world.seed = seed;
    Pair pair(options);
    ASSERT_TRUE(pair.open());
    pair.world().run_for(std::chrono::milliseconds(seed * 1700));
    pair.link().black_hole_towards(pair.client_host());
    const auto since = pair.world().elapsed();
    ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 60s));
    EXPECT_EQ(pair.why_disconnected_, Errc::heartbeat_lost);
    // From the last sign of life, at most one interval before the silence began.
    EXPECT_GE(pair.world().elapsed() - since, 24s);
    EXPECT_LE(pair.world().elapsed() - since, 36s);
  }
}

TEST(HeartbeatCases, S30_FindASilentClientWithin30To35Seconds) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  pair.world().run_for(7s);
  pair.link().black_hole_towards(pair.server_host());
  const auto since = pair.world().elapsed();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.store().closed() == 1; }, 60s));
  EXPECT_GE(pair.world().elapsed() - since, 24s);
  EXPECT_LE(pair.world().elapsed() - since, 36s);
}

TEST(Heartbeats, AFreezeShorterThanTheLimitIsForgiven) {
  Pair pair(many_loops());
  ASSERT_TRUE(pair.open());
  pair.world().run_for(3s);
  pair.server_host().freeze(20s);
  pair.world().run_for(60s);
  EXPECT_TRUE(pair.connected());
  EXPECT_EQ(pair.connects_, 1);
}

TEST(Heartbeats, HonourTheirOptions) {
  PairOptions options;
  options.session.heartbeat = {.interval = 100ms, .missed_max = 2};
  options.server.heartbeat = {.interval = 100ms, .missed_max = 2};
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  pair.world().run_for(10s);
  EXPECT_TRUE(pair.connected());
  pair.link().black_hole();
  const auto since = pair.world().elapsed();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 60s));
  EXPECT_LE(pair.world().elapsed() - since, 500ms);
  pair.link().heal();
  ASSERT_TRUE(wait_connected(pair, 2));
}

}  // namespace
}  // namespace rnbd::rtrs::testing
