// What can be done to a simulated network, and that it does just that.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "fabric/conformance/end.h"
#include "fabric/sim/test_harness.h"

namespace rnbd::fabric::sim {
namespace {

using namespace std::chrono_literals;
using conformance::Bytes;
using conformance::immediate_work;
using conformance::kDefaultOptions;
using conformance::Pair;

std::span<const iovec> one(const iovec& part) { return {&part, 1}; }

class Faults : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  Faults() : harness_(Options{.seed = GetParam()}) {}
  World& world() { return harness_.world(); }
  Link& link() { return harness_.link(); }
  // Immediates from the client until something is wrong with it; the server answers each.
  void start_ping(Pair& pair, std::size_t receives = 64) {
    pair.server().post_receives(receives);
    for (std::uint32_t i = 1; i <= 20; ++i) {
      ASSERT_EQ(pair.client().post(immediate_work(i, i)), std::error_code());
    }
  }
  SimHarness harness_;
};
INSTANTIATE_TEST_SUITE_P(Seeds, Faults, ::testing::ValuesIn(seeds(8)));

TEST_P(Faults, ACutIsNoticedByBothEndsAndTheLinkStaysDown) {
  Pair pair(harness_);
  start_ping(pair);
  world().run_for(10us);
  link().cut();
  EXPECT_TRUE(
      world().run_until([&] { return pair.client().closed + pair.server().closed == 2; }, 1ms));
  EXPECT_EQ(pair.client().dones.size(), 20U);
  conformance::End late;
  ConnectRequest request;
  request.address.destination = pair.address();
  request.timeout = 1s;
  late.own(harness_.client(0).connect(request, pair.client_domain(), kDefaultOptions, late));
  late.wait_closed(harness_);
  EXPECT_EQ(late.why, Errc::handshake_timeout);
  link().heal();
  pair.connect_one(kDefaultOptions);
}

TEST_P(Faults, ACutMayBeNoticedLater) {
  Pair pair(harness_);
  link().cut(5s);
  start_ping(pair);
  world().run_for(4900ms);
  EXPECT_EQ(pair.client().closed + pair.server().closed, 0);
  EXPECT_EQ(pair.server().messages(), 0U);
  world().run_for(200ms);
  EXPECT_EQ(pair.client().closed + pair.server().closed, 2);
}

TEST_P(Faults, ABlackHoleHoldsWhatItSwallowsUntilItHeals) {
  Pair pair(harness_);
  world().run_for(5ms);
  link().black_hole_towards(harness_.server_host());
  start_ping(pair);
  pair.client().post_receives(1);
  ASSERT_EQ(pair.server().post(immediate_work(7)), std::error_code());
  world().run_for(10s);
  EXPECT_EQ(pair.server().messages(), 0U);
  EXPECT_EQ(pair.client().messages(), 1U);  // the other direction works
  EXPECT_EQ(pair.client().closed + pair.server().closed, 0);
  link().heal();
  EXPECT_TRUE(world().run_until([&] { return pair.server().messages() == 20; }, 1ms));
}

TEST_P(Faults, TheLastAcknowledgementAloneMayBeLost) {
  std::size_t acted_but_failed = 0;
  for (int i = 0; i < 20; ++i) {
    Pair pair(harness_);
    world().run_for(5ms);  // what opened the connection has arrived
    pair.server().post_receives(1);
    link().reset_after(harness_.server_host(), 1);
    ASSERT_EQ(pair.client().post(immediate_work(1, 1)), std::error_code());
    EXPECT_TRUE(
        world().run_until([&] { return pair.client().closed + pair.server().closed == 2; }, 1s));
    EXPECT_EQ(pair.server().messages(), 1U);
    acted_but_failed += pair.client().failed_dones();
  }
  EXPECT_GT(acted_but_failed, 0U);
}

TEST_P(Faults, AResetMayFallBetweenAnyTwoWorkItems) {
  for (std::uint64_t n = 1; n <= 20; ++n) {
    Pair pair(harness_);
    world().run_for(5ms);
    link().reset_after(harness_.server_host(), n);
    start_ping(pair);
    EXPECT_TRUE(
        world().run_until([&] { return pair.client().closed + pair.server().closed == 2; }, 1s));
    EXPECT_EQ(pair.server().messages(), n);
    EXPECT_EQ(pair.client().dones.size(), 20U);
  }
}

TEST_P(Faults, ADyingConnectionMayLeavePartOfAWrite) {
  std::size_t partial = 0;
  for (int i = 0; i < 40; ++i) {
    Pair pair(harness_);
    const Bytes bytes(100000, std::byte{1});
    const iovec part = conformance::vec(bytes);
    Memory& memory =
        pair.server_memory({.size = bytes.size(), .access = Access::remote_write, .chunk_size = 0});
    ASSERT_EQ(pair.client().post(
                  conformance::write_imm_work(one(part), memory.remote(0, bytes.size()), 1, 1)),
              std::error_code());
    world().run_for(world().some(40us));
    link().reset();
    pair.server().wait_closed(harness_);
    const auto placed = std::ranges::count(memory.bytes(), std::byte{1});
    if (placed != 0 && placed != 100000) ++partial;
    EXPECT_EQ(pair.server().messages(), 0U);
    std::ranges::fill(memory.bytes(), std::byte{2});
    world().run_for(1ms);
    EXPECT_EQ(std::ranges::count(memory.bytes(), std::byte{2}), 100000);
    pair.close_all();
  }
  EXPECT_GT(partial, 0U);
}

TEST_P(Faults, StalledCompletionsComeAfterTheStall) {
  Pair pair(harness_);
  link().stall_completions(1s);
  start_ping(pair);
  world().run_for(900ms);
  EXPECT_EQ(pair.server().messages(), 20U);
  EXPECT_TRUE(pair.client().dones.empty());
  world().run_for(200ms);
  EXPECT_EQ(pair.client().dones.size(), 20U);
  EXPECT_EQ(pair.client().failed_dones(), 0U);
}

TEST_P(Faults, ConnectsMayBeRefusedAndDelayed) {
  Pair pair(harness_, 0);
  link().refuse_connects(1);
  const auto domain = harness_.client(0).create_domain(PathAddress{});
  ConnectRequest request;
  request.address.destination = pair.address();
  conformance::End refused;
  refused.own(harness_.client(0).connect(request, **domain, kDefaultOptions, refused));
  refused.wait_closed(harness_);
  EXPECT_EQ(refused.why, from_errno(ECONNREFUSED));
  link().delay_connects(2s);
  const Duration before = world().elapsed();
  pair.connect_one(kDefaultOptions);
  EXPECT_GE(world().elapsed() - before, 2s);
}

TEST_P(Faults, ADuplicatedConnectIsAcceptedTwiceAndOneOfThemDies) {
  conformance::Door door;
  const auto listener = harness_.server().listen(harness_.listen_address(), door);
  const auto client_domain = harness_.client(0).create_domain(PathAddress{});
  const auto server_domain = harness_.server().create_domain(PathAddress{});
  link().duplicate_connects(1);
  conformance::End client;
  conformance::End servers[2];
  ConnectRequest request;
  request.address.destination = (*listener)->local_address();
  client.own(harness_.client(0).connect(request, **client_domain, kDefaultOptions, client));
  ASSERT_TRUE(world().run_until([&] { return door.requests.size() == 2; }, 1s));
  for (std::size_t i = 0; i < 2; ++i) {
    servers[i].own(harness_.server().accept(std::move(door.requests[i]), **server_domain, {},
                                            kDefaultOptions, servers[i]));
  }
  ASSERT_TRUE(world().run_until(
      [&] { return client.connected == 1 && servers[0].closed + servers[1].closed == 1; }, 1s));
  EXPECT_EQ(client.closed, 0);
  client.close();
  client.wait_closed(harness_);
  for (auto& server : servers) server.wait_closed(harness_);
}

TEST_P(Faults, ACrashIsNoticedByThePeerOrNot) {
  for (const auto death : {Host::Death::noticed, Host::Death::silent}) {
    Pair pair(harness_);
    start_ping(pair);
    world().run_for(10us);
    harness_.server_host().crash(death);
    pair.server().wait_closed(harness_);  // the ghost's own end
    const std::size_t before = pair.server().messages();
    world().run_for(5s);
    EXPECT_EQ(pair.client().closed, death == Host::Death::noticed ? 1 : 0);
    EXPECT_EQ(pair.server().messages(), before);
    harness_.server_host().restart();
    if (death == Host::Death::silent) {
      static_cast<void>(pair.client().post(immediate_work(1)));
      EXPECT_TRUE(world().run_until([&] { return pair.client().closed == 1; },
                                    1s));  // as by a reset of TCP
    }
    return;  // the server's fabric of this life is gone: one death per world
  }
}

TEST_P(Faults, AGhostReachesNobodyAndItsSuccessorDoes) {
  conformance::Door door;
  auto listener = harness_.server().listen(harness_.server_host().address_with_port(1234), door);
  harness_.server_host().crash();
  EXPECT_FALSE(harness_.server().listen(harness_.listen_address(), door).has_value());
  harness_.server_host().restart();
  EXPECT_FALSE(
      harness_.server().listen(harness_.listen_address(), door).has_value());  // still a ghost
  conformance::Door successor;
  SimFabric& fabric = harness_.server_host().add_fabric();
  const auto again = fabric.listen((*listener)->local_address(), successor);
  ASSERT_TRUE(again.has_value());
  const auto domain = harness_.client(0).create_domain(PathAddress{});
  ConnectRequest request;
  request.address.destination = (*again)->local_address();
  conformance::End client;
  client.own(harness_.client(0).connect(request, **domain, kDefaultOptions, client));
  EXPECT_TRUE(world().run_until([&] { return successor.requests.size() == 1; }, 1s));
  EXPECT_TRUE(door.requests.empty());
  successor.requests.clear();
  client.wait_closed(harness_);
}

TEST_P(Faults, AFrozenHostHearsEverythingWhenItThaws) {
  Pair pair(harness_);
  harness_.server_host().freeze(3s);
  start_ping(pair);
  world().run_for(2900ms);
  EXPECT_EQ(pair.server().messages(), 0U);
  world().run_for(200ms);
  EXPECT_EQ(pair.server().messages(), 20U);
}

// Random traffic and random faults over one world; the history as a hash.
std::uint64_t history(std::uint64_t seed) {
  SimHarness harness(Options{.seed = seed});
  World& world = harness.world();
  Pair pair(harness, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    pair.server(i).post_receives(64);
    pair.client(i).post_receives(64);
  }
  for (int step = 0; step < 100; ++step) {
    const std::size_t i = world.random().below(3);
    static_cast<void>(pair.client(i).post(immediate_work(1, 1)));
    static_cast<void>(pair.server(i).post(immediate_work(2, 2)));
    if (world.chance(20)) harness.link().black_hole();
    if (world.chance(10)) harness.link().heal();
    if (world.chance(40)) harness.link().reset_one(world.random().below(3));
    if (world.chance(30)) harness.server_host().freeze(1ms);
    world.run_for(world.some(100us));
  }
  harness.link().heal();
  pair.close_all();
  return world.trace_hash();
}

TEST_P(Faults, TheSameSeedGivesTheSameHistoryAndAnotherGivesAnother) {
  EXPECT_EQ(history(GetParam()), history(GetParam()));
  EXPECT_NE(history(GetParam()), history(GetParam() + 1000));
}

}  // namespace
}  // namespace rnbd::fabric::sim
