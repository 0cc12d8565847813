// A client's process is gone and another one comes in its place, under its identity (R16): it must
// not be let to work before nothing of its predecessor can take effect any more.

#include <gtest/gtest.h>

#include "rtrs/testing/pair.h"

namespace rnbd::rtrs::testing {
namespace {

// A session beside the one of the pair, on the present life of its client host.
class Successor final : public client::SessionHandler {
 public:
  Successor(Pair& pair, std::optional<client::SessionIdentity> resume)
      : pair_(pair), fabric_(pair.client_host().add_fabric()), random_(77) {
    auto options = pair.options().session;
    for (std::size_t path = 0; path < pair.options().paths; ++path)
      options.paths.push_back({pair.client_host().address(path), pair.server_address(path)});
    options.resume = std::move(resume);
    fabric::Fabric* const fabrics[] = {&fabric_};
    session = client::Session::create(fabrics, 0, random_, *this, options).value();
  }
  ~Successor() override {
    close();
    EXPECT_TRUE(pair_.world().run_until([&] { return !session; }, 60s));
  }
  void open() {
    on_home([this] { session->open(); });
  }
  void close() {
    on_home([this] {
      if (session) session->close();
    });
  }
  [[nodiscard]] bool wait_connected(Duration most = 120s) {
    return pair_.world().run_until([&] { return connects > 0 || !session; }, most) && session;
  }
  std::error_code run(Io& io) {
    on_home([&] { session->lane(0).submit(io); });
    EXPECT_TRUE(pair_.world().run_until([&] { return io.completions > 0; }, 60s));
    return io.result;
  }

  std::unique_ptr<client::Session> session;
  int connects = 0;
  int changes = 0;
  std::uint64_t running_at_connect = 0;  // at the server, of the predecessor
  std::error_code why_closed;

 private:
  void on_home(std::function<void()> call) { pair_.on_loop(fabric_.sim_loop(), std::move(call)); }
  void on_session_connected() override {
    if (connects++ == 0) running_at_connect = pair_.store().running();
  }
  void on_session_disconnected(std::error_code) override {}
  void on_session_closed(std::error_code why) override {
    why_closed = why;
    session.reset();
  }
  void on_path_changed() override { ++changes; }

  Pair& pair_;
  SimFabric& fabric_;
  SeededRandom random_;
};

PairOptions two_paths() {
  PairOptions options;
  options.paths = 2;
  options.session.policy = PathPolicy::round_robin;
  return options;
}

// The predecessor dies with these requests under way; its machine lives on.
client::SessionIdentity die(Pair& pair, Host::Death death) {
  const auto identity = pair.session().identity();
  pair.client_host().crash(death);
  pair.client_host().restart();
  return identity;
}

TEST(Takeover, R16_SuccessorResumesIdentityAndIsAcceptedOnlyAfterThePredecessorDrained) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io slow(Direction::write, 0, 100, 0, 3'000'000);
  pair.submit(slow);
  pair.world().run_for(1ms);
  const auto identity = die(pair, Host::Death::noticed);
  ASSERT_EQ(pair.store().running(), 1U);
  Successor successor(pair, identity);
  successor.open();
  ASSERT_TRUE(successor.wait_connected());
  EXPECT_EQ(successor.running_at_connect, 0U);
  EXPECT_GT(pair.world().elapsed(), 3s);
  const auto now = successor.session->identity();
  EXPECT_EQ(now.uuid, identity.uuid);
  EXPECT_EQ(now.paths[0].uuid, identity.paths[0].uuid);
  EXPECT_GT(now.paths[0].reconnects, identity.paths[0].reconnects + 1);  // it was refused meanwhile
  Io io(Direction::read, 0, 100);
  EXPECT_FALSE(successor.run(io));
}

// The server does not know that the client is dead, and its disk is slow.
TEST(Takeover, R16_AHalfDeadPredecessorsWriteEndsBeforeItsSuccessorIsConnected) {
  for (const std::uint32_t seconds : {2U, 20U, 70U}) {
    Pair pair;
    ASSERT_TRUE(pair.open());
    Io slow(Direction::write, 0, 100, 0, seconds * 1'000'000);
    pair.submit(slow);
    pair.world().run_for(1ms);
    Successor successor(pair, die(pair, Host::Death::silent));
    EXPECT_EQ(pair.link().connections(), 2U);  // as the server sees it
    successor.open();
    ASSERT_TRUE(successor.wait_connected());
    EXPECT_EQ(successor.running_at_connect, 0U) << seconds;
    EXPECT_GE(pair.world().elapsed(), std::chrono::seconds(seconds));
  }
}

TEST(Takeover, R16_EveryPathOfThePredecessorIsProvenNotJustTheFirst) {
  Pair pair(two_paths());
  ASSERT_TRUE(pair.open());
  Io one(Direction::write, 0, 100, 0, 20'000'000),
      other(Direction::write, 4096, 100, 0, 20'000'000);
  pair.submit(one);
  pair.submit(other);
  pair.world().run_for(1ms);
  const auto identity = pair.session().identity();
  // One path is known to be dead, the other is not; and it cannot be reached for a while.
  pair.link(1).black_hole();
  die(pair, Host::Death::noticed);
  ASSERT_EQ(pair.store().running(), 2U);
  Successor successor(pair, identity);
  successor.open();
  pair.world().run_for(90s);
  EXPECT_EQ(successor.session->paths()[0].state, client::PathState::connected);
  EXPECT_EQ(successor.connects, 0);
  pair.link(1).heal();
  ASSERT_TRUE(successor.wait_connected());
  EXPECT_EQ(successor.running_at_connect, 0U);
}

// A server of ours is asked (F0), so a path that is gone for good does not keep the successor
// waiting; and the answer comes when what the predecessor had running there has ended.
TEST(Takeover, R16_R12_F0_APathThatIsGoneForGoodIsFencedOverAnother) {
  auto options = two_paths();
  options.server.identity = {.features = wire::kFeatureFence, .instance = {1}, .boot = {2}};
  Pair pair(options);
  ASSERT_TRUE(pair.open());
  Io one(Direction::write, 0, 100, 0, 5'000'000), other(Direction::write, 4096, 100, 0, 5'000'000);
  pair.submit(one);
  pair.submit(other);
  pair.world().run_for(1ms);
  const auto identity = pair.session().identity();
  pair.link(1).black_hole();
  die(pair, Host::Death::noticed);
  ASSERT_EQ(pair.store().running(), 2U);
  Successor successor(pair, identity);
  successor.open();
  pair.world().run_for(3s);
  EXPECT_EQ(successor.connects, 0);
  ASSERT_TRUE(pair.world().run_until([&] { return successor.connects == 1; }, 10s));
  EXPECT_EQ(successor.running_at_connect, 0U);
  Io io(Direction::read, 0, 100);
  EXPECT_FALSE(successor.run(io));
}

TEST(Takeover, R16_AServerThatKnowsNothingOfTheSessionEstablishesItNewly) {
  Pair pair(two_paths());
  ASSERT_TRUE(pair.open());
  const auto identity = die(pair, Host::Death::noticed);
  ASSERT_TRUE(pair.crash_server());
  ASSERT_EQ(pair.store().opened(), 0U);
  Successor successor(pair, identity);
  successor.open();
  ASSERT_TRUE(successor.wait_connected());
  EXPECT_EQ(pair.store().opened(), 1U);
}

TEST(Takeover, R16_AServerThatIsAwayIsWaitedFor) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  const auto identity = die(pair, Host::Death::noticed);
  ASSERT_TRUE(pair.stop_server_and_wait());
  Successor successor(pair, identity);
  successor.open();
  pair.world().run_for(20s);
  EXPECT_EQ(successor.connects, 0);
  pair.start_server();
  EXPECT_TRUE(successor.wait_connected());
}

TEST(Takeover, R16_TheCallerBoundsTheWait) {
  Pair pair;
  ASSERT_TRUE(pair.open());
  Io slow(Direction::write, 0, 100, 0, 30'000'000);
  pair.submit(slow);
  pair.world().run_for(1ms);
  Successor successor(pair, die(pair, Host::Death::noticed));
  successor.open();
  pair.world().run_for(5s);
  ASSERT_NE(successor.session, nullptr);
  successor.close();
  ASSERT_TRUE(pair.world().run_until([&] { return !successor.session; }, 1s));
  EXPECT_EQ(successor.why_closed, Errc::session_closed);
  EXPECT_EQ(successor.connects, 0);
}

TEST(Takeover, R16_TheIdentityIsThereBeforeTheFirstConnectAndCountsEveryAttempt) {
  Pair pair(two_paths());
  Successor own(pair, std::nullopt);
  const auto before = own.session->identity();
  ASSERT_EQ(before.paths.size(), 2U);
  EXPECT_NE(before.uuid, Uuid{});
  EXPECT_NE(before.paths[0].uuid, before.paths[1].uuid);
  own.open();
  ASSERT_TRUE(own.wait_connected());
  auto expected = before;
  expected.paths[0].reconnects = expected.paths[1].reconnects = 1;
  EXPECT_EQ(own.session->identity(), expected);
  const int changes = own.changes;
  EXPECT_GT(changes, 0);
  pair.link(1).reset();
  ASSERT_TRUE(pair.world().run_until(
      [&] { return own.session->identity().paths[1].reconnects == 2; }, 60s));
  pair.world().run_for(1ms);
  EXPECT_GT(own.changes, changes);
  EXPECT_EQ(own.session->identity().paths[0].reconnects, 1);
}

TEST(Takeover, R16_APathOfThePredecessorCannotBeLeftOut) {
  Pair pair(two_paths());
  ASSERT_TRUE(pair.open());
  const auto create = [&](client::SessionIdentity resume, std::size_t paths) {
    Pair other;
    other.options().session.resume = std::move(resume);
    for (std::size_t i = 0; i < paths; ++i)
      other.options().session.paths.push_back(pair.session().identity().paths[i].address);
    return other.make_session().has_value();
  };
  const auto identity = pair.session().identity();
  EXPECT_TRUE(create(identity, 2));
  EXPECT_FALSE(create(identity, 1));
  EXPECT_FALSE(create({identity.uuid, {}}, 2));
  EXPECT_TRUE(create({identity.uuid, {identity.paths[0]}}, 2));  // but one may be added
}

}  // namespace
}  // namespace rnbd::rtrs::testing
