// What a session does with the requests of a lost path while others live on: the rungs of the fence
// ladder (safety rules R11, R12), and paths that come and go at run time.

#include <gtest/gtest.h>

#include "rtrs/testing/pair.h"

namespace rnbd::rtrs::testing {
namespace {

constexpr wire::Extension kOwnServer{.features = wire::kFeatureFence, .instance = {1}, .boot = {2}};

PairOptions two_paths(bool own_server) {
  PairOptions options;
  options.client_loops = 2;
  options.server_loops = 2;
  options.paths = 2;
  options.session.policy = PathPolicy::round_robin;
  if (own_server) options.server.identity = kOwnServer;
  return options;
}

using Ios = std::vector<std::unique_ptr<Io>>;

Ios submit_many(Pair& pair, Direction way, std::size_t count, std::uint32_t delay_us) {
  Ios ios;
  for (std::size_t i = 0; i < count; ++i) {
    ios.push_back(std::make_unique<Io>(way, i * 4096, 4096, 0, delay_us));
    fill(ios.back()->bytes(), i + 1);
    pair.submit(*ios.back(), i % pair.session().lane_count());
  }
  return ios;
}

std::size_t done(const Ios& ios) {
  return static_cast<std::size_t>(
      std::ranges::count_if(ios, [](const auto& io) { return io->completions > 0; }));
}

bool wait_done(Pair& pair, const Ios& ios, Duration within) {
  return pair.world().run_until([&] { return done(ios) == ios.size(); }, within);
}

void expect_all_well(const Ios& ios) {
  for (const auto& io : ios) {
    EXPECT_EQ(io->completions, 1);
    EXPECT_FALSE(io->result) << io->result.message();
    EXPECT_TRUE(io->guards_intact());
    EXPECT_FALSE(io->changed_after_completion());
  }
}

TEST(Fencing, R12_F0_AWriteOfALostPathGoesOverAnotherWhenTheServerIsDoneWithIt) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 20'000);  // 20 ms in the backend
  pair.world().run_for(1ms);
  const auto running = pair.store().running();
  EXPECT_EQ(running, 8U);
  pair.link(0).cut(100us);
  pair.world().run_for(15ms);
  EXPECT_EQ(pair.store().requests(), 8U);  // none was sent twice while its first copy ran
  EXPECT_FALSE(pair.session().fenced());
  ASSERT_TRUE(wait_done(pair, ios, 100ms));
  expect_all_well(ios);
  EXPECT_TRUE(pair.session().fenced());
  EXPECT_EQ(pair.disconnects_, 0);
  EXPECT_GT(pair.store().requests(), 8U);  // those of the lost path, again
}

TEST(Fencing, R12_F0_TheFenceEndsWithin200MsOfALinkEvent) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 300);
  pair.world().run_for(100us);
  pair.link(0).cut();
  EXPECT_TRUE(wait_done(pair, ios, 200ms));
  expect_all_well(ios);
}

TEST(Fencing, R12_F0_ABlackHoleIsNoticedAndFencedIn1500Ms) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  pair.world().run_for(3s);
  auto ios = submit_many(pair, Direction::write, 8, 300);
  pair.link(0).black_hole();
  EXPECT_FALSE(wait_done(pair, ios, 900ms));
  EXPECT_TRUE(wait_done(pair, ios, 600ms));
  expect_all_well(ios);
}

TEST(Fencing, R11_ReadsOfALostPathDoNotWaitForTheFence) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  auto writes = submit_many(pair, Direction::write, 2, 5'000'000);
  auto reads = submit_many(pair, Direction::read, 4, 300);
  pair.world().run_for(100us);
  pair.link(0).cut();
  EXPECT_TRUE(wait_done(pair, reads, 100ms));
  EXPECT_EQ(done(writes), 0U);
  EXPECT_TRUE(wait_done(pair, writes, 20s));
  expect_all_well(reads);
  expect_all_well(writes);
}

// All permits of the lost path's requests are in quarantine, and there are no others.
TEST(Fencing, R11_PermitsOfALostPathAreNotUsedBeforeTheFence) {
  auto options = two_paths(true);
  options.client_loops = 1;
  options.server.queue_depth = 8;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  auto writes = submit_many(pair, Direction::write, 6, 50'000);
  pair.world().run_for(1ms);
  pair.link(0).cut();
  auto more = submit_many(pair, Direction::write, 6, 100);
  pair.world().run_for(30ms);
  EXPECT_EQ(done(more), 0U);  // three permits run on the other path, three are in quarantine
  EXPECT_TRUE(wait_done(pair, writes, 1s));
  EXPECT_TRUE(wait_done(pair, more, 1s));
  expect_all_well(more);
  expect_all_well(writes);
}

TEST(Fencing, R12_F1_AServerWithoutFenceProvesItByTakingThePathAnew) {
  Pair pair(two_paths(false));
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 20'000);
  pair.world().run_for(1ms);
  pair.link(0).reset();  // it may be connected again at once
  ASSERT_TRUE(wait_done(pair, ios, 1s));
  std::size_t lost = 0;
  for (const auto& io : ios) lost += io->result == Errc::path_lost ? 1U : 0U;
  EXPECT_EQ(lost, 4U);
  EXPECT_EQ(pair.unfenced_, 1);
  ASSERT_TRUE(pair.world().run_until([&] { return pair.session().fenced(); }, 60s));
  EXPECT_TRUE(pair.world().run_until([&] { return pair.fenced_ == 1; }, 1s));
}

TEST(Fencing, R12_F3_TimeFencesWhenNothingElseDoes) {
  auto options = two_paths(false);
  options.session.server_patience = 5s;
  options.session.backend_patience = 10s;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 300);
  pair.world().run_for(100us);
  pair.link(0).cut();
  ASSERT_TRUE(wait_done(pair, ios, 1s));
  EXPECT_FALSE(pair.world().run_until([&] { return pair.session().fenced(); }, 15s));
  EXPECT_TRUE(pair.world().run_until([&] { return pair.session().fenced(); }, 2s));
}

TEST(Fencing, R12_ImmediateFailoverSendsAgainAtOnce) {
  auto options = two_paths(false);
  options.session.failover = client::Failover::immediate;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 2'000);
  pair.world().run_for(1ms);
  pair.link(0).cut();
  EXPECT_TRUE(wait_done(pair, ios, 100ms));
  expect_all_well(ios);
}

TEST(Fencing, AfterATotalLossTheSessionIsBackWhenEveryPathIsFenced) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 3'000'000);
  pair.world().run_for(1ms);
  pair.link(0).black_hole();
  pair.link(1).cut();
  ASSERT_TRUE(wait_done(pair, ios, 10s));
  for (const auto& io : ios) EXPECT_EQ(io->result, Errc::path_lost);
  ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 1s));
  pair.link(1).heal();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.connects_ == 2; }, 60s));
  EXPECT_EQ(pair.store().running(), 0U);  // of path 0 neither, which is still in its hole
}

// One path hears that the server went, the other not yet: it still belongs to the old instance.
TEST(Fencing, R17_APathToAnotherInstanceIsNotJoinedWhileOneToTheOldIsUp) {
  auto options = two_paths(true);
  options.session.fast_heartbeat = {.interval = 10s, .missed_max = 3};
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  pair.link(1).black_hole_towards(pair.client_host());
  ASSERT_TRUE(pair.stop_server_and_wait());
  pair.options().server.identity.instance = {9};
  pair.start_server();
  // It does not say that it may be the session's first, so the new server knows nothing of it.
  ASSERT_TRUE(pair.world().run_until(
      [&] { return pair.session().paths()[0].last_error == from_errno(ENXIO); }, 10s));
  EXPECT_EQ(pair.store().opened(), 0U);
  EXPECT_EQ(pair.disconnects_, 0);
  EXPECT_EQ(pair.session().server_identity()->instance, Uuid{1});
  ASSERT_TRUE(pair.world().run_until([&] { return pair.connects_ == 2; }, 120s));
  EXPECT_EQ(pair.session().server_identity()->instance, Uuid{9});
}

// ---- paths at run time ----

struct Outcome {
  int calls = 0;
  std::error_code error;
  std::function<void(std::error_code)> note() {
    return [this](std::error_code e) {
      ++calls;
      error = e;
    };
  }
};

TEST(Paths, AreAddedAndRemovedUnderLoad) {
  auto options = two_paths(true);
  options.session.paths = {};
  Pair pair(options);
  pair.options().session.paths = {{pair.client_host().address(0), pair.server_address(0)}};
  ASSERT_TRUE(pair.open());
  auto first = submit_many(pair, Direction::write, 16, 3'000);
  Outcome added;
  pair.on_loop(pair.client_fabric().sim_loop(), [&] {
    pair.session().add_path({pair.client_host().address(1), pair.server_address(1)}, added.note());
  });
  ASSERT_TRUE(pair.world().run_until([&] { return added.calls == 1; }, 10s));
  EXPECT_FALSE(added.error);
  EXPECT_EQ(pair.session().paths().size(), 2U);
  EXPECT_EQ(pair.session().identity().paths.size(), 2U);
  auto second = submit_many(pair, Direction::write, 16, 3'000);
  pair.world().run_for(1ms);
  Outcome removed;
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().remove_path(0, removed.note()); });
  ASSERT_TRUE(pair.world().run_until([&] { return removed.calls == 1; }, 10s));
  EXPECT_FALSE(removed.error);
  EXPECT_EQ(pair.session().paths().size(), 1U);
  ASSERT_TRUE(wait_done(pair, first, 10s));
  ASSERT_TRUE(wait_done(pair, second, 10s));
  expect_all_well(first);
  expect_all_well(second);
  EXPECT_EQ(pair.disconnects_, 0);
}

TEST(Paths, OneToWhereTheServerMovedBringsTheSessionBack) {
  Pair pair(two_paths(true));
  pair.options().session.paths = {{pair.client_host().address(0), pair.server_address(0)}};
  ASSERT_TRUE(pair.open());
  pair.link(0).cut();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 10s));
  ASSERT_TRUE(pair.stop_server_and_wait());
  pair.start_server();
  Outcome added;
  pair.on_loop(pair.client_fabric().sim_loop(), [&] {
    pair.session().add_path({pair.client_host().address(1), pair.server_address(1)}, added.note());
  });
  ASSERT_TRUE(pair.world().run_until([&] { return pair.connects_ == 2; }, 10s));
  EXPECT_FALSE(added.error);
}

TEST(Paths, OneThatCannotBeConnectedIsNotAdded) {
  Pair pair(two_paths(true));
  pair.options().session.paths = {{pair.client_host().address(0), pair.server_address(0)}};
  ASSERT_TRUE(pair.open());
  pair.link(1).cut();
  Outcome added;
  Outcome again;
  pair.on_loop(pair.client_fabric().sim_loop(), [&] {
    pair.session().add_path({pair.client_host().address(1), pair.server_address(1)}, added.note());
    pair.session().add_path({pair.client_host().address(0), pair.server_address(0)}, again.note());
  });
  ASSERT_TRUE(pair.world().run_until([&] { return added.calls == 1; }, 60s));
  EXPECT_TRUE(added.error);
  EXPECT_EQ(again.error, from_errno(EEXIST));
  EXPECT_EQ(pair.session().paths().size(), 1U);
}

TEST(Paths, DisconnectedOnesStayDownUntilTheyAreReconnected) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 3'000);
  pair.world().run_for(1ms);
  Outcome down;
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().disconnect_path(0, down.note()); });
  ASSERT_TRUE(pair.world().run_until([&] { return down.calls == 1; }, 10s));
  ASSERT_TRUE(wait_done(pair, ios, 10s));
  expect_all_well(ios);
  pair.world().run_for(100s);
  EXPECT_EQ(pair.session().paths()[0].state, client::PathState::closed);
  Outcome up;
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().reconnect_path(0, up.note()); });
  ASSERT_TRUE(pair.world().run_until([&] { return up.calls == 1; }, 10s));
  EXPECT_FALSE(up.error);
  EXPECT_EQ(pair.session().paths()[0].state, client::PathState::connected);
}

TEST(Paths, TheLastOneMayBeDisconnectedAndComesBack) {
  auto options = two_paths(true);
  options.paths = 1;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  Outcome down;
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().disconnect_path(0, down.note()); });
  ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 10s));
  pair.world().run_for(100s);
  EXPECT_FALSE(pair.closed_);
  Outcome up;
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().reconnect_path(0, up.note()); });
  EXPECT_TRUE(pair.world().run_until([&] { return pair.connects_ == 2; }, 10s));
}

TEST(Paths, AreReconnectedWhileTheyAreUp) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  auto ios = submit_many(pair, Direction::write, 8, 300'000);
  pair.world().run_for(1ms);
  Outcome again;
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().reconnect_path(1, again.note()); });
  ASSERT_TRUE(pair.world().run_until([&] { return again.calls == 1; }, 10s));
  EXPECT_FALSE(again.error);
  EXPECT_EQ(pair.session().paths()[1].state, client::PathState::connected);
  ASSERT_TRUE(wait_done(pair, ios, 10s));
  expect_all_well(ios);
}

TEST(Paths, ALinkThatGoesDownLosesThemAtOnce) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  pair.on_loop(pair.client_fabric().sim_loop(),
               [&] { pair.session().link_changed(pair.client_host().address(0), false); });
  pair.world().run_for(1ms);
  EXPECT_EQ(pair.session().paths()[0].last_error, from_errno(ENETDOWN));
  EXPECT_EQ(pair.session().paths()[1].state, client::PathState::connected);
}

TEST(Paths, ASlowOneServesOnlyWhenThereIsNoOther) {
  Pair pair(two_paths(true));
  ASSERT_TRUE(pair.open());
  pair.link(0).set_latency({.base = 50ms, .jitter = 1ms, .tail = 1ms, .tail_chance = 2});
  pair.world().run_for(3s);
  const auto before = pair.session().paths()[0].writes;
  auto ios = submit_many(pair, Direction::write, 8, 0);
  ASSERT_TRUE(wait_done(pair, ios, 20ms));
  EXPECT_EQ(pair.session().paths()[0].writes, before);
  pair.link(1).cut();
  pair.world().run_for(10ms);
  auto more = submit_many(pair, Direction::write, 2, 0);
  EXPECT_TRUE(wait_done(pair, more, 5s));
  expect_all_well(more);
}

TEST(Paths, MinLatencyTakesTheOneWithTheQuickestHeartbeat) {
  auto options = two_paths(true);
  options.session.policy = PathPolicy::min_latency;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  pair.link(0).set_latency({.base = 1ms, .jitter = 10us, .tail = 1ms, .tail_chance = 1000});
  pair.world().run_for(3s);
  const auto before = pair.session().paths()[0].writes;
  for (int i = 0; i < 8; ++i) {
    auto ios = submit_many(pair, Direction::write, 4, 0);
    ASSERT_TRUE(wait_done(pair, ios, 1s));
  }
  EXPECT_EQ(pair.session().paths()[0].writes, before);
}

}  // namespace
}  // namespace rnbd::rtrs::testing
