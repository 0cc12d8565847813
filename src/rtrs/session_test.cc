// A session of ours with a server of ours: the orderly life.

#include <gtest/gtest.h>

#include "rtrs/testing/pair.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::testing {
namespace {

TEST(Session, OpensAndClosesLeavingNothingBehind) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  EXPECT_EQ(pair.store().opened(), 1U);
  EXPECT_EQ(pair.session().limits().queue_depth, 16U);
  EXPECT_EQ(pair.session().limits().max_io_size, 16384U - 4096U);
  EXPECT_EQ(pair.session().limits().max_hdr_size, 4096U);
  const auto paths = pair.session().paths();
  ASSERT_EQ(paths.size(), 1U);
  EXPECT_EQ(paths[0].state, client::PathState::connected);
  EXPECT_EQ(paths[0].fabric, "sim");
  ASSERT_TRUE(pair.close_and_wait());
  EXPECT_EQ(pair.why_closed_, Errc::session_closed);
  EXPECT_TRUE(pair.world().run_until([&] { return pair.store().closed() == 1; }, 5s));
  EXPECT_EQ(pair.link().connections(), 0U);
}

TEST(Session, RefusesBadNamesAndNoPaths) {
  for (const char* name : {"", "a/b", "a.b"}) {
    PairOptions options;
    options.session.name = name;
    Pair pair(options);
    EXPECT_EQ(pair.make_session().error(), from_errno(EINVAL)) << name;
  }
  PairOptions options;
  options.session.name = std::string(255, 'n');
  Pair pair(options);
  EXPECT_EQ(pair.make_session().error(), from_errno(EINVAL));
}

TEST(SessionCases, C17_NameOf254BytesIsAccepted) {
  PairOptions options;
  options.session.name = std::string(254, 'n');
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  EXPECT_EQ((*pair.store().live().begin())->name(), options.session.name);
}

struct Shape {
  std::size_t client_loops;
  std::size_t server_loops;
  std::uint32_t queue_depth;
  std::uint32_t poll_connections = 0;
  bool keyed_gates = false;
};
class Shapes : public ::testing::TestWithParam<Shape> {};

TEST_P(Shapes, EveryLaneReadsAndWritesAtFullDepth) {
  PairOptions options;
  options.client_loops = GetParam().client_loops;
  options.server_loops = GetParam().server_loops;
  options.server.queue_depth = GetParam().queue_depth;
  options.session.poll_connections = GetParam().poll_connections;
  options.server_fabric.keyed_gates = GetParam().keyed_gates;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  constexpr std::size_t kBlock = 512;
  const std::size_t blocks = options.store_size / kBlock;
  std::uint32_t permits = pair.session().service_lane().permits();
  for (const auto way : {Direction::write, Direction::read}) {
    std::vector<std::unique_ptr<Io>> ios;
    for (std::size_t lane = 0; lane < pair.session().lane_count(); ++lane) {
      if (way == Direction::write) permits += pair.lane(lane).permits();
      const std::size_t requests = 2 * pair.lane(lane).permits() + 3;  // some must wait
      for (std::size_t i = 0; i < requests; ++i) {
        const std::size_t block = ios.size() % blocks;
        ios.push_back(std::make_unique<Io>(way, block * kBlock, kBlock, 0, 1 + ios.size() % 7));
        if (way == Direction::write) fill(ios.back()->bytes(), block);
        pair.submit(*ios.back(), lane);
      }
    }
    ASSERT_TRUE(pair.world().run_until(
        [&] {
          return std::ranges::all_of(ios, [](const auto& io) { return io->completions > 0; });
        },
        60s));
    for (std::size_t i = 0; i < ios.size(); ++i) {
      EXPECT_EQ(ios[i]->completions, 1);
      EXPECT_FALSE(ios[i]->result);
      std::vector<std::byte> expected(kBlock);
      fill(expected, i % blocks);
      EXPECT_TRUE(std::ranges::equal(ios[i]->bytes(), expected)) << i;
    }
  }
  EXPECT_EQ(permits, GetParam().queue_depth);
  EXPECT_TRUE(pair.store().mistakes().empty());
  EXPECT_EQ(pair.session().paths()[0].inflight, 0U);
}
INSTANTIATE_TEST_SUITE_P(All, Shapes,
                         ::testing::Values(Shape{1, 1, 16}, Shape{1, 1, 2}, Shape{1, 1, 3},
                                           Shape{2, 1, 3}, Shape{1, 3, 100}, Shape{4, 1, 100},
                                           Shape{3, 4, 300}, Shape{4, 3, 512}, Shape{2, 2, 16, 2},
                                           Shape{1, 1, 2, 0, true}, Shape{3, 4, 64, 0, true},
                                           Shape{4, 3, 512, 0, true}));

TEST(Session, EverySizeArrivesWholeAndNothingElseIsTouched) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  const std::uint32_t most = pair.session().limits().max_io_size;
  for (const std::size_t length :
       {std::size_t{1}, std::size_t{2}, std::size_t{511}, std::size_t{512}, std::size_t{4095},
        std::size_t{4096}, std::size_t{4097}, std::size_t{most}}) {
    Io write(Direction::write, 77, length);
    fill(write.bytes(), length);
    ASSERT_FALSE(pair.run(write)) << length;
    Io read(Direction::read, 77, length);
    ASSERT_FALSE(pair.run(read)) << length;
    EXPECT_TRUE(std::ranges::equal(read.bytes(), write.bytes())) << length;
    EXPECT_TRUE(read.guards_intact()) << length;
  }
}

TEST(Session, RequestsWithoutDataGoBothWays) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  for (const auto way : {Direction::read, Direction::write}) {
    Io io(way, 0, 0);
    EXPECT_FALSE(pair.run(io));
    EXPECT_FALSE(pair.run(io, Pair::kService));
    EXPECT_EQ(io.completions, 2);
  }
}

TEST(Session, UserMessagesOfEverySizeArriveUnchanged) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  for (const std::size_t size : {16U, 17U, 103U, 104U, 105U, 264U, 320U, 321U, 4071U, 4072U}) {
    for (const auto way : {Direction::read, Direction::write}) {
      Io io(way, 0, 100);
      std::vector<std::byte> message(size);
      fill(message, size);
      std::memcpy(message.data(), &io.header, sizeof(io.header));
      io.message = message;
      EXPECT_FALSE(pair.run(io)) << size;
      EXPECT_EQ(pair.store().last_message(), message) << size;
    }
  }
}

TEST(Session, SegmentedDataIsGatheredAndScattered) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io write(Direction::write, 0, 3000);
  fill(write.bytes(), 1);
  std::array<iovec, 3> parts{iovec{write.bytes().data(), 1}, iovec{write.bytes().data() + 1, 1999},
                             iovec{write.bytes().data() + 2000, 1000}};
  write.data = parts;
  ASSERT_FALSE(pair.run(write));
  Io read(Direction::read, 0, 3000);
  std::array<iovec, 3> others{iovec{read.bytes().data(), 500},
                              iovec{read.bytes().data() + 500, 2499},
                              iovec{read.bytes().data() + 2999, 1}};
  read.data = others;
  ASSERT_FALSE(pair.run(read));
  EXPECT_TRUE(std::ranges::equal(read.bytes(), write.bytes()));
}

TEST(Session, WhatIsTooLongIsRefusedLocally) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io data(Direction::write, 0, pair.session().limits().max_io_size + 1);
  EXPECT_EQ(pair.run(data), Errc::too_long);
  std::vector<std::byte> message(4096 - 4 + 1);
  Io write(Direction::write, 0, 0);
  write.message = message;
  EXPECT_EQ(pair.run(write), Errc::too_long);
  Io read(Direction::read, 0, 0);
  read.message = std::span(message).first(4096 - wire::kRtrsMessageMax + 1);
  EXPECT_EQ(pair.run(read), Errc::too_long);
  EXPECT_EQ(pair.store().requests(), 0U);
}

TEST(Session, ErrnoOfTheServerReachesTheRequest) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  for (const int error : {ENOENT, EIO, EINVAL, ENOTCONN, 511}) {
    for (const auto way : {Direction::read, Direction::write}) {
      Io io(way, 0, 100, error);
      EXPECT_EQ(pair.run(io), from_errno(error));
    }
  }
}

TEST(Session, RequestsWaitForPermitsInOrder) {
  PairOptions options;
  options.server.queue_depth = 2;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  ASSERT_EQ(pair.lane().permits(), 1U);
  std::vector<std::size_t> order;
  std::vector<std::unique_ptr<Io>> ios;
  for (std::size_t i = 0; i < 10; ++i) {
    ios.push_back(
        std::make_unique<Io>(Direction::write, 0, 0, 0, static_cast<std::uint32_t>(100 - 10 * i)));
    ios.back()->then = [&order, i] { order.push_back(i); };
  }
  for (auto& io : ios) pair.submit(*io);
  ASSERT_TRUE(pair.world().run_until([&] { return order.size() == ios.size(); }, 10s));
  EXPECT_TRUE(std::ranges::is_sorted(order));
}

TEST(Session, LanesWithoutPermitsBorrow) {
  PairOptions options;
  options.client_loops = 4;
  options.server.queue_depth = 3;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  EXPECT_EQ(pair.lane(3).permits(), 0U);
  std::vector<std::unique_ptr<Io>> ios;
  for (std::size_t i = 0; i < 40; ++i) {
    ios.push_back(std::make_unique<Io>(Direction::read, 0, 100));
    pair.submit(*ios.back(), i % 4);
  }
  ASSERT_TRUE(pair.world().run_until(
      [&] {
        return std::ranges::all_of(
            ios, [](const auto& io) { return io->completions == 1 && !io->result; });
      },
      10s));
}

TEST(Session, WhatALaneBorrowedHasEndedWhenTheSessionHas) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    PairOptions options;
    options.world.seed = seed;
    options.client_loops = 4;
    options.server.queue_depth = 3;
    Pair pair(options);
    ASSERT_TRUE(pair.open());
    std::vector<std::unique_ptr<Io>> ios;
    for (std::size_t i = 0; i < 20; ++i) {
      ios.push_back(std::make_unique<Io>(Direction::read, 0, 100));
      pair.submit(*ios.back(), i % 4);
      pair.world().run_for(pair.world().some(20us));
    }
    ASSERT_TRUE(pair.close_and_wait());
    for (const auto& io : ios) EXPECT_EQ(io->completions, 1) << "seed " << seed;
  }
}

TEST(Session, ANoticeOfOurServerIsToldAndOneThatMayBeLostWithItsPathToo) {
  for (const bool own : {true, false}) {
    PairOptions options;
    options.paths = 2;
    if (own) options.server.identity.instance.fill(7);
    Pair pair(options);
    ASSERT_TRUE(pair.open());
    pair.on_loop(pair.server_fabric().sim_loop(),
                 [&] { (*pair.store().live().begin())->notify(); });
    pair.world().run_for(10ms);
    EXPECT_EQ(pair.notices_ > 0, own);
    const int before = pair.notices_;
    pair.link(1).reset();
    pair.world().run_for(10ms);
    EXPECT_EQ(pair.notices_ > before, own);
    EXPECT_TRUE(pair.connected());
  }
}

TEST(Session, SpreadsRequestsOverSeveralPathsAndSurvivesTheLossOfOne) {
  for (const auto policy : {PathPolicy::round_robin, PathPolicy::min_inflight}) {
    PairOptions options;
    options.paths = 2;
    options.client_loops = 2;
    options.session.policy = policy;
    Pair pair(options);
    ASSERT_TRUE(pair.open());
    EXPECT_EQ(pair.store().opened(), 1U);
    std::vector<std::unique_ptr<Io>> ios;
    const auto run_some = [&] {
      ios.clear();
      for (std::size_t i = 0; i < 12; ++i) {
        ios.push_back(std::make_unique<Io>(Direction::write, 0, 100, 0, 300));
        pair.submit(*ios.back(), i % 2);
      }
      return pair.world().run_until(
          [&] {
            return std::ranges::all_of(ios, [](const auto& io) { return io->completions == 1; });
          },
          10s);
    };
    ASSERT_TRUE(run_some());
    EXPECT_GT(pair.session().paths()[0].writes, 2U);
    EXPECT_GT(pair.session().paths()[1].writes, 2U);
    pair.link(0).cut();
    pair.world().run_for(10ms);
    EXPECT_EQ(pair.disconnects_, 0);
    ASSERT_TRUE(run_some());
    EXPECT_TRUE(std::ranges::all_of(ios, [](const auto& io) { return !io->result; }));
    pair.link(0).heal();
    ASSERT_TRUE(pair.world().run_until(
        [&] { return pair.session().paths()[0].state == client::PathState::connected; }, 60s));
    EXPECT_EQ(pair.connects_, 1);
  }
}

TEST(Session, SubmittingFromInsideDoneKeepsOrderAndPermits) {
  PairOptions options;
  options.server.queue_depth = 2;
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  Io again(Direction::write, 0, 0);
  int rounds = 0;
  again.then = [&] {
    if (++rounds < 100) pair.lane().submit(again);
  };
  Io other(Direction::write, 0, 0);
  pair.submit(again);
  pair.submit(other);
  ASSERT_TRUE(pair.world().run_until([&] { return rounds == 100 && other.completions == 1; }, 10s));
}

TEST(Session, ReportsWhatItDid) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io write(Direction::write, 0, 1000);
  Io read(Direction::read, 0, 500);
  ASSERT_FALSE(pair.run(write));
  ASSERT_FALSE(pair.run(read));
  ASSERT_FALSE(pair.run(read));
  const auto path = pair.session().paths()[0];
  EXPECT_EQ(path.writes, 1U);
  EXPECT_EQ(path.write_bytes, 1016U);
  EXPECT_EQ(path.reads, 2U);
  EXPECT_EQ(path.read_bytes, 2 * 516U);
  std::vector<server::SessionInfo> infos;
  pair.server().list_sessions([&](auto list) { infos = std::move(list); });
  ASSERT_TRUE(pair.world().run_until([&] { return !infos.empty(); }, 1s));
  EXPECT_EQ(infos[0].name, "test");
  ASSERT_EQ(infos[0].paths.size(), 1U);
  EXPECT_EQ(infos[0].paths[0].state, "connected");
  EXPECT_EQ(infos[0].paths[0].connections, 2U);
  EXPECT_EQ(infos[0].paths[0].reads, 2U);
  EXPECT_EQ(infos[0].paths[0].write_bytes, 1016U);
  EXPECT_EQ(infos[0].paths[0].name, path.name);
}

TEST(Session, SeveralClientsOfOneServerDoNotMeet) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  // The same name from another session is refused; see the hostile tests. Another name is not.
  struct Quiet : client::SessionHandler {
    void on_session_connected() override { up = true; }
    void on_session_disconnected(std::error_code) override {}
    void on_session_closed(std::error_code) override { closed = true; }
    bool up = false, closed = false;
  } quiet;
  SeededRandom random(99);
  fabric::Fabric* fabric = &pair.client_fabric();
  auto other = client::Session::create({&fabric, 1}, 0, random, quiet,
                                       {.name = "other", .paths = {{{}, pair.server_address()}}});
  ASSERT_TRUE(other);
  pair.on_loop(pair.client_fabric().sim_loop(), [&] { (*other)->open(); });
  ASSERT_TRUE(pair.world().run_until([&] { return quiet.up; }, 10s));
  EXPECT_EQ(pair.store().live().size(), 2U);
  pair.on_loop(pair.client_fabric().sim_loop(), [&] { (*other)->close(); });
  ASSERT_TRUE(pair.world().run_until([&] { return quiet.closed; }, 10s));
  other->reset();
  Io io(Direction::write, 0, 10);
  EXPECT_FALSE(pair.run(io));
}

}  // namespace
}  // namespace rnbd::rtrs::testing
