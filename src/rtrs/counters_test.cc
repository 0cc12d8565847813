// What is counted of requests, and how it is set back.

#include <gtest/gtest.h>

#include "rtrs/testing/pair.h"

namespace rnbd::rtrs::testing {
namespace {

using client::PathInfo;

std::vector<server::PathInfo> served(Pair& pair) {
  std::vector<server::SessionInfo> infos;
  pair.server().list_sessions([&](auto list) { infos = std::move(list); });
  EXPECT_TRUE(pair.world().run_until([&] { return !infos.empty(); }, 1s));
  return infos.empty() ? std::vector<server::PathInfo>{} : infos[0].paths;
}

TEST(PathCounters, WireTimeIsFromPostedToAnsweredAndOfIoOnly) {
  PairOptions options;
  options.server.identity = {.features = wire::kFeatureFence, .instance = {1}, .boot = {1}};
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  const auto requests = [&] {
    const PathInfo path = pair.session().paths()[0];
    return path.reads + path.writes;
  };
  ASSERT_TRUE(pair.world().run_until([&] { return requests() == 1; }, 1s));  // the hello
  pair.world().run_for(1s);
  EXPECT_EQ(pair.session().paths()[0].wire.count(), 0U);
  for (int i = 0; i < 10; ++i) {
    Io io(Direction::read, 0, 100, 0, 300);
    ASSERT_FALSE(pair.run(io));
    EXPECT_NE(io.posted, TimePoint{});
  }
  const LatencyCounts wire = pair.session().paths()[0].wire;
  EXPECT_EQ(wire.count(), 10U);
  EXPECT_GE(wire.quantile(0.01), 300us);
  EXPECT_LT(wire.max(), 10ms);
  EXPECT_LE(wire.quantile(0.999), wire.max());
  EXPECT_GE(wire.sum(), 3ms);
}

TEST(PathCounters, ErrorsAreThoseTheServerAnswered) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io good(Direction::write, 0, 100);
  Io bad(Direction::write, 0, 100, EIO);
  ASSERT_FALSE(pair.run(good));
  ASSERT_EQ(pair.run(bad), from_errno(EIO));
  EXPECT_EQ(pair.session().paths()[0].errors, 1U);
  EXPECT_EQ(served(pair)[0].errors, 1U);
}

TEST(PathCounters, AResetIsOfItsGroupAndNeverOfWhatIsInFlight) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io io(Direction::write, 0, 100);
  ASSERT_FALSE(pair.run(io));
  Io slow(Direction::read, 0, 200, 0, 5000);
  pair.submit(slow, 0);
  ASSERT_TRUE(pair.world().run_until([&] { return pair.session().paths()[0].inflight == 1; }, 1s));
  pair.session().reset_counters(0, CounterGroup::reconnects);
  EXPECT_EQ(pair.session().paths()[0].writes, 1U);
  pair.session().reset_counters(0, CounterGroup::rdma);
  PathInfo path = pair.session().paths()[0];
  EXPECT_EQ(path.writes + path.write_bytes + path.reads + path.read_bytes, 0U);
  EXPECT_EQ(path.wire.count(), 0U);
  EXPECT_EQ(path.inflight, 1U);
  ASSERT_TRUE(pair.world().run_until([&] { return slow.completions == 1; }, 1s));
  path = pair.session().paths()[0];
  EXPECT_EQ(path.inflight, 0U);
  EXPECT_EQ(path.wire.count(), 1U);
  EXPECT_EQ(path.reads, 0U);  // it was begun before
  const std::string name = served(pair)[0].name;
  EXPECT_FALSE(pair.server().reset_counters("test", "another", CounterGroup::rdma));
  EXPECT_TRUE(pair.server().reset_counters("test", name, CounterGroup::all));
  EXPECT_EQ(served(pair)[0].writes, 0U);
}

TEST(PathCounters, AReconnectIsCountedAndSetBack) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  pair.link().reset();
  ASSERT_TRUE(
      pair.world().run_until([&] { return pair.session().paths()[0].reconnects == 1; }, 60s));
  pair.session().reset_counters(0, CounterGroup::rdma);
  EXPECT_EQ(pair.session().paths()[0].reconnects, 1U);
  pair.session().reset_counters(0, CounterGroup::reconnects);
  EXPECT_EQ(pair.session().paths()[0].reconnects, 0U);
  Io io(Direction::write, 0, 100);  // heartbeats look at a number that no reset touches
  ASSERT_FALSE(pair.run(io));
}

TEST(PathCounters, RequestsOfALostPathAreCountedWhereTheyWereSentAgain) {
  PairOptions options;
  options.paths = 2;
  options.session.policy = PathPolicy::round_robin;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  std::vector<std::unique_ptr<Io>> ios;
  for (std::size_t i = 0; i < 8; ++i) {
    ios.push_back(std::make_unique<Io>(Direction::read, 0, 100, 0, 3000));
    pair.submit(*ios.back(), 0);
  }
  ASSERT_TRUE(pair.world().run_until([&] { return pair.session().paths()[0].inflight == 4; }, 1s));
  pair.link(0).reset();
  ASSERT_TRUE(pair.world().run_until(
      [&] { return std::ranges::all_of(ios, [](const auto& io) { return io->completions == 1; }); },
      60s));
  const auto paths = pair.session().paths();
  EXPECT_EQ(paths[0].failed_over, 0U);
  EXPECT_EQ(paths[1].failed_over, 4U);
  pair.session().reset_counters(1, CounterGroup::rdma);
  EXPECT_EQ(pair.session().paths()[1].failed_over, 0U);
}

TEST(PathCounters, ALoopThatStaysOnItsCpuMigratesNothing) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io io(Direction::write, 0, 100);
  ASSERT_FALSE(pair.run(io));
  const PathInfo path = pair.session().paths()[0];
  EXPECT_EQ(path.migrated_from, (std::vector<std::uint64_t>{0}));
  EXPECT_EQ(path.migrated_to, (std::vector<std::uint64_t>{0}));
}

TEST(CpuCounters, HaveANumberPerCpuAndNoneForOthers) {
  CpuCounters counters(2);
  counters.add(1);
  counters.add(2);
  std::vector<std::uint64_t> sums;
  counters.add_to(sums);
  counters.add_to(sums);
  EXPECT_EQ(sums, (std::vector<std::uint64_t>{0, 2}));
}

}  // namespace
}  // namespace rnbd::rtrs::testing
