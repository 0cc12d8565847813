// The server's part of fenced failover: control messages (F0) and permits that collide (R4), with
// clients that send what they like over several paths of one session.

#include <gtest/gtest.h>

#include "rtrs/testing/raw.h"

namespace rnbd::rtrs::testing {
namespace {

using wire::Control;
using wire::ControlKind;

class ServerFence : public ::testing::Test {
 protected:
  static constexpr std::size_t kPaths = 3;

  ServerFence() : pair(make_options()) {
    set_log_options({.program = "rnbd", .level = LogLevel::off});
  }
  ~ServerFence() override {
    paths.clear();
    EXPECT_TRUE(pair.world().run_until([&] { return pair.store().live().empty(); }, 60s));
    EXPECT_TRUE(pair.store().mistakes().empty());
    EXPECT_EQ(pair.store().running(), 0U);
    set_log_options({});
  }
  static PairOptions make_options() {
    PairOptions options;
    options.paths = kPaths;
    options.server_loops = 3;
    options.server.identity.instance.fill(7);
    options.server.identity.boot.fill(9);
    return options;
  }
  RawClient& add_path(std::size_t address, std::uint64_t seed, std::uint16_t recon_cnt = 1) {
    paths.push_back(std::make_unique<RawClient>(pair.client_fabric(), pair.server_address(address),
                                                std::uint16_t{3}, seed));
    RawClient& path = *paths.back();
    path.request.paths_uuid.fill(0x55);
    path.request.recon_cnt = recon_cnt;
    path.establish();
    return path;
  }
  static void control(RawClient& path, std::uint32_t permit, const Control& what,
                      std::size_t cid = 0) {
    path.request_at(*path.ends[cid], permit, 0, wire::bytes_of(wire::encode_control(what)), 0);
  }
  static Control fence_of(const RawClient& path) {
    return {ControlKind::fence, path.request.recon_cnt, path.request.sess_uuid};
  }
  // A write of 10 bytes at 0 that takes so long.
  void write(RawClient& path, std::uint32_t permit, Duration takes, std::size_t cid = 1) {
    StoreMessage message{};
    message.delay_us = static_cast<std::uint32_t>(takes / 1us);
    path.write_request(*path.ends[cid], permit, 10, sizeof(StoreMessage), message);
  }
  // The errno of the answer on that connection, -1: none came.
  int answer(RawClient& path, std::uint32_t permit, std::size_t cid = 0, Duration within = 5s) {
    std::optional<int> found;
    const auto look = [&] {
      for (const std::uint32_t immediate : path.ends[cid]->immediates) {
        if (wire::immediate_type(immediate) != wire::ImmediateType::io_response) continue;
        const auto response = wire::decode_response(immediate);
        if (response.id == permit) found = response.error;
      }
      return found.has_value() || path.ends[cid]->closed;
    };
    if (!pair.world().run_until(look, within)) return -1;
    return found.value_or(-1);
  }

  Pair pair;
  std::vector<std::unique_ptr<RawClient>> paths;
};

TEST_F(ServerFence, TheAcceptOfConnection0CarriesTheExtensionAndNoOther) {
  RawClient& path = add_path(0, 1);
  const auto extension = wire::parse_extension(path.ends[0]->private_data);
  ASSERT_TRUE(extension);
  EXPECT_EQ(extension->instance, pair.options().server.identity.instance);
  EXPECT_EQ(extension->boot, pair.options().server.identity.boot);
  EXPECT_EQ(extension->features, wire::kFeatureFence | wire::kFeatureNotice);
  EXPECT_FALSE(wire::parse_extension(path.ends[1]->private_data));
}

TEST_F(ServerFence, ANoticeGoesToAClientThatSaidHelloOnConnection0OfEveryPath) {
  add_path(0, 1);
  add_path(1, 2);
  const auto notices = [&](std::size_t path, std::size_t cid) {
    return std::ranges::count(paths[path]->ends[cid]->immediates, wire::kNoticeImmediate);
  };
  const auto notify = [&] {
    pair.on_loop(pair.server_fabric().sim_loop(),
                 [&] { (*pair.store().live().begin())->notify(); });
    pair.world().run_for(10ms);
  };
  notify();
  EXPECT_EQ(notices(0, 0), 0) << "a kernel client would not know what to do with it";
  control(*paths[0], 0, {.kind = ControlKind::hello});
  ASSERT_EQ(answer(*paths[0], 0), 0);
  notify();
  EXPECT_EQ(notices(0, 0), 1);
  EXPECT_EQ(notices(1, 0), 1);
  EXPECT_EQ(notices(0, 1), 0);
  for (int i = 0; i < 100; ++i) {
    pair.on_loop(pair.server_fabric().sim_loop(),
                 [&] { (*pair.store().live().begin())->notify(); });
  }
  pair.world().run_for(10ms);
  EXPECT_GT(notices(0, 0), 1);
  EXPECT_LT(notices(0, 0), 100) << "those that wait are one";
  EXPECT_FALSE(paths[0]->ends[0]->closed);
}

TEST_F(ServerFence, AHelloMakesTheClientOursAndItsHeartbeatFast) {
  RawClient& path = add_path(0, 1);
  EXPECT_FALSE((*pair.store().live().begin())->own_client());
  control(path, 0, {.kind = ControlKind::hello});
  EXPECT_EQ(answer(path, 0), 0);
  EXPECT_TRUE((*pair.store().live().begin())->own_client());
  EXPECT_EQ(pair.store().requests(), 0U);  // the handler never hears of it
  EXPECT_TRUE(path.dropped());             // within two seconds: this client does not answer
}

TEST_F(ServerFence, WithoutAHelloTheHeartbeatIsTheSlowOne) {
  RawClient& path = add_path(0, 1);
  pair.world().run_for(10s);
  EXPECT_FALSE(path.all_closed());
}

TEST_F(ServerFence, AControlMessageOffConnection0ClosesThePath) {
  RawClient& path = add_path(0, 1);
  control(path, 0, {.kind = ControlKind::hello}, 1);
  EXPECT_TRUE(path.dropped());
}

TEST_F(ServerFence, AnUnknownControlIsAnsweredAndThePathLives) {
  RawClient& path = add_path(0, 1);
  control(path, 4, {.kind = static_cast<ControlKind>(77)});
  EXPECT_EQ(answer(path, 4), EOPNOTSUPP);
  control(path, 4, {.kind = ControlKind::hello});
  path.ends[0]->immediates.clear();
  EXPECT_EQ(answer(path, 4), 0);
}

TEST_F(ServerFence, F0_AFenceIsAnsweredWhenNothingOfThePathRunsAnyMore) {
  RawClient& old = add_path(0, 1);
  RawClient& asker = add_path(1, 2);
  write(old, 3, 800ms);
  pair.world().run_for(1ms);
  control(asker, 0, fence_of(old));
  control(asker, 1, fence_of(old));  // several may wait for one path
  EXPECT_TRUE(pair.world().run_until([&] { return old.all_closed(); }, 100ms));
  EXPECT_EQ(pair.store().running(), 1U);
  write(asker, 5, 1ms);  // the asker goes on meanwhile
  EXPECT_EQ(answer(asker, 5, 1), 0);
  EXPECT_EQ(answer(asker, 0, 0, 1ms), -1);
  EXPECT_EQ(answer(asker, 0), 0);
  EXPECT_EQ(pair.store().running(), 0U);
  EXPECT_EQ(answer(asker, 1), 0);
}

TEST_F(ServerFence, F0_AFenceOfItselfIsInvalidAndOneOfNothingOrAnOlderConnectionIsTrueAlready) {
  RawClient& other = add_path(0, 1, 7);
  RawClient& asker = add_path(1, 2, 7);
  control(asker, 0, fence_of(asker));
  EXPECT_EQ(answer(asker, 0), EINVAL);
  auto older = fence_of(asker);
  older.recon_cnt = 6;
  control(asker, 1, older);
  EXPECT_EQ(answer(asker, 1), 0);
  older.path = other.request.sess_uuid;
  control(asker, 2, older);
  EXPECT_EQ(answer(asker, 2), 0);
  Control unknown{ControlKind::fence, 1, {}};
  control(asker, 3, unknown);
  EXPECT_EQ(answer(asker, 3), 0);
  pair.world().run_for(10ms);
  EXPECT_FALSE(other.ends[0]->closed);
  EXPECT_FALSE(asker.ends[0]->closed);
}

TEST_F(ServerFence, F0_ReconnectCountsAreComparedAsTheyWrap) {
  RawClient& wrapped = add_path(0, 1, 2);
  RawClient& before = add_path(1, 2, 0xfffe);
  RawClient& asker = add_path(2, 3);
  auto fence = fence_of(wrapped);
  fence.recon_cnt = 0xfffe;  // older than 2
  control(asker, 0, fence);
  EXPECT_EQ(answer(asker, 0), 0);
  EXPECT_FALSE(wrapped.ends[0]->closed);
  fence = fence_of(before);
  fence.recon_cnt = 2;  // later than 0xfffe
  control(asker, 1, fence);
  EXPECT_EQ(answer(asker, 1), 0);
  EXPECT_TRUE(before.dropped());
}

TEST_F(ServerFence, F0_AConnectThatWasOnItsWayWhenItsPathWasFencedIsRefused) {
  RawClient& asker = add_path(1, 2);
  RawClient late(pair.client_fabric(), pair.server_address(0), 3, 1);
  late.request.paths_uuid.fill(0x55);
  late.request.recon_cnt = 3;
  control(asker, 0, fence_of(late));
  EXPECT_EQ(answer(asker, 0), 0);
  EXPECT_EQ(late.connect(late.request).refused, from_errno(ECONNRESET));
  late.request.recon_cnt = 2;
  EXPECT_EQ(late.connect(late.request).refused, from_errno(ECONNRESET));
  late.request.recon_cnt = 4;
  EXPECT_TRUE(late.connect(late.request).connected);
}

TEST_F(ServerFence, F0_APathStillConnectingIsFencedAsWell) {
  RawClient& asker = add_path(1, 2);
  RawClient half(pair.client_fabric(), pair.server_address(0), 3, 1);
  half.request.paths_uuid.fill(0x55);
  ASSERT_TRUE(half.connect(half.request).connected);
  control(asker, 0, fence_of(half));
  EXPECT_EQ(answer(asker, 0), 0);
  EXPECT_TRUE(half.dropped());
}

TEST_F(ServerFence, F0_OfPathsThatFenceEachOtherTheFirstIsHeard) {
  RawClient& one = add_path(0, 1);
  RawClient& two = add_path(1, 2);
  write(one, 3, 300ms);
  write(two, 4, 300ms);
  pair.world().run_for(1ms);
  control(one, 0, fence_of(two));
  control(two, 1, fence_of(one));
  ASSERT_TRUE(pair.world().run_until([&] { return one.all_closed() || two.all_closed(); }, 1s));
  if (one.all_closed()) {
    EXPECT_EQ(answer(two, 1), 0);
  } else {
    EXPECT_EQ(answer(one, 0), 0);
  }
}

TEST_F(ServerFence, F0_AnAskerThatIsFencedItselfWaitsForNothingMore) {
  RawClient& old = add_path(0, 1);
  RawClient& asker = add_path(1, 2);
  RawClient& last = add_path(2, 3);
  write(old, 3, 20s);
  pair.world().run_for(1ms);
  control(asker, 0, fence_of(old));
  pair.world().run_for(1ms);
  control(last, 1, fence_of(asker));
  EXPECT_EQ(answer(last, 1, 0, 100ms), 0);
  EXPECT_EQ(pair.store().running(), 1U);
}

TEST_F(ServerFence, F0_AnAskerThatDiesMeanwhileLeavesNothingBehind) {
  RawClient& old = add_path(0, 1);
  RawClient& asker = add_path(1, 2);
  write(old, 3, 400ms);
  pair.world().run_for(1ms);
  control(asker, 0, fence_of(old));
  pair.world().run_for(10ms);
  asker.ends[0]->close();
  EXPECT_TRUE(asker.dropped());
  RawClient& next = add_path(2, 3);
  control(next, 1, fence_of(old));
  EXPECT_EQ(answer(next, 1), 0);
  EXPECT_EQ(pair.store().running(), 0U);
}

TEST_F(ServerFence, F0_AStuckBackendHoldsTheAnswerAndNothingElse) {
  RawClient& old = add_path(0, 1);
  RawClient& asker = add_path(1, 2);
  write(old, 3, 20s);
  pair.world().run_for(1ms);
  control(asker, 0, fence_of(old));
  for (int second = 0; second < 19; ++second) {
    asker.ends[0]->immediate(wire::kHeartbeatImmediate);
    pair.world().run_for(1s);
    ASSERT_FALSE(asker.ends[0]->closed);
  }
  EXPECT_EQ(answer(asker, 0, 0, 1ms), -1);
  EXPECT_EQ(answer(asker, 0), 0);
}

// ---- Permits that collide ----

TEST_F(ServerFence, R4_APermitUsedOnAnotherPathEndsTheFirstAndWaitsForIt) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  write(a, 3, 500ms);
  pair.world().run_for(1ms);
  write(b, 3, 0ms);
  EXPECT_TRUE(pair.world().run_until([&] { return a.all_closed(); }, 100ms));
  EXPECT_EQ(pair.store().requests(), 1U);  // the second has not begun
  EXPECT_EQ(pair.store().running(), 1U);
  EXPECT_EQ(answer(b, 3, 1), 0);
  EXPECT_EQ(pair.store().requests(), 2U);
}

TEST_F(ServerFence, R4_ItDoesNotMatterOnWhichConnectionsTheyCollide) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  write(a, 3, 200ms, 1);
  pair.world().run_for(1ms);
  write(b, 3, 0ms, 2);
  EXPECT_EQ(answer(b, 3, 2), 0);
  EXPECT_TRUE(a.all_closed());
}

TEST_F(ServerFence, R4_R2_ASecondRequestOnAPermitThatWaitsClosesThePath) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  write(a, 3, 500ms);
  pair.world().run_for(1ms);
  write(b, 3, 0ms, 1);
  pair.world().run_for(1ms);
  b.ends[2]->immediate(wire::RequestImmediate(16).encode(3, 26));
  EXPECT_TRUE(b.dropped());
  EXPECT_TRUE(pair.world().run_until([&] { return pair.store().running() == 0; }, 1s));
  EXPECT_EQ(pair.store().requests(), 1U);
}

TEST_F(ServerFence, R4_OfAChainOverThreePathsOnlyTheFirstAndTheLastRun) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  RawClient& c = add_path(2, 3);
  write(a, 3, 500ms);
  pair.world().run_for(1ms);
  write(b, 3, 0ms, 2);
  pair.world().run_for(1ms);
  write(c, 3, 0ms);
  EXPECT_EQ(answer(c, 3, 1), 0);
  EXPECT_TRUE(a.all_closed());
  EXPECT_TRUE(b.all_closed());
  EXPECT_EQ(pair.store().requests(), 2U);
}

TEST_F(ServerFence, R4_ARequestThatWaitsIsDroppedWithItsPathAndThePermitIsFreeAfterwards) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  write(a, 3, 300ms);
  pair.world().run_for(1ms);
  write(b, 3, 0ms);
  pair.world().run_for(1ms);
  b.ends[1]->close();
  EXPECT_TRUE(b.dropped());
  RawClient& c = add_path(2, 3);
  write(c, 3, 0ms);
  EXPECT_EQ(answer(c, 3, 1), 0);
  EXPECT_EQ(pair.store().requests(), 2U);
  EXPECT_EQ(pair.store().running(), 0U);
}

TEST_F(ServerFence, R4_BothPathsMayDieAndTheSessionEnds) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  write(a, 3, 300ms);
  pair.world().run_for(1ms);
  write(b, 3, 0ms);
  a.ends[1]->close();
  b.ends[2]->close();
  EXPECT_TRUE(pair.world().run_until([&] { return pair.store().live().empty(); }, 2s));
  EXPECT_EQ(pair.store().requests(), 1U);
}

TEST_F(ServerFence, R4_ManyPermitsCollideAtOnce) {
  RawClient& a = add_path(0, 1);
  RawClient& b = add_path(1, 2);
  for (std::uint32_t permit = 0; permit < 16; ++permit)
    write(a, permit, 100ms + permit * 10ms, permit % 3);
  pair.world().run_for(1ms);
  for (std::uint32_t permit = 0; permit < 16; ++permit) write(b, permit, 1ms, (permit + 1) % 3);
  for (std::uint32_t permit = 0; permit < 16; ++permit)
    EXPECT_EQ(answer(b, permit, (permit + 1) % 3), 0) << permit;
  EXPECT_TRUE(a.all_closed());
}

// ---- Sessions from before a reboot ----

struct History final : server::SessionHistory {
  bool known(const Uuid& session) const override { return sessions.contains(session); }
  void add(const Uuid& session) override { sessions.insert(session); }
  std::set<Uuid> sessions;
};

TEST(ServerHistory, R9_AReconnectOfAnUnknownSessionIsASurvivor) {
  History history;
  PairOptions options;
  options.server.history = &history;
  Pair pair(options);
  const auto survives = [&](std::uint64_t seed, std::uint16_t recon_cnt) {
    RawClient client(pair, 2, seed);
    client.request.recon_cnt = recon_cnt;
    client.establish();
    const bool answer = (*pair.store().live().begin())->survivor();
    client.ends[0]->close();
    EXPECT_TRUE(pair.world().run_until([&] { return pair.store().live().empty(); }, 5s));
    return answer;
  };
  EXPECT_FALSE(survives(1, 1));
  EXPECT_EQ(history.sessions.size(), 1U);
  EXPECT_FALSE(survives(1, 2));  // known by now
  EXPECT_TRUE(survives(2, 2));
  EXPECT_TRUE(survives(2, 3));  // being here does not make it known
  EXPECT_EQ(history.sessions.size(), 1U);
}

TEST(ServerWithoutIdentity, AnnouncesNothingAndKnowsNoControlMessages) {
  Pair pair;
  RawClient client(pair);
  client.establish();
  EXPECT_FALSE(wire::parse_extension(client.ends[0]->private_data));
  const auto hello = wire::encode_control({.kind = ControlKind::hello});
  client.request_at(*client.ends[0], 0, 0, wire::bytes_of(hello), 0);
  EXPECT_TRUE(client.dropped());
}

}  // namespace
}  // namespace rnbd::rtrs::testing
