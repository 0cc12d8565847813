// Our client with a server that behaves as the Linux kernel's: the transport's part of the cases
// in docs/interop.md. The same cases as seen by devices are in src/rnbd.

#include <gtest/gtest.h>

#include "rtrs/testing/kernel_server.h"

namespace rnbd::rtrs::testing {
namespace {

class KernelServerCases : public ::testing::Test {
 protected:
  KernelServerCases() { set_log_options({.program = "rnbd", .level = LogLevel::off}); }
  ~KernelServerCases() override {
    pair->close();
    EXPECT_TRUE(pair->world().run_until([&] { return !pair->session_alive(); }, 120s));
    server.reset();
    pair.reset();
    set_log_options({});
  }
  static PairOptions impatient() {
    PairOptions options;
    options.session.name_patience = {};
    return options;
  }
  // The pair's own server makes room for the kernel's.
  void start(const KernelServerOptions& options, PairOptions pair_options = impatient()) {
    pair = std::make_unique<Pair>(std::move(pair_options));
    EXPECT_TRUE(pair->stop_server_and_wait());
    store.resize(1 << 21);
    server = std::make_unique<KernelServer>(
        pair->world(), pair->server_host(), pair->options().paths, options,
        [this](KernelRequest& request) { return execute(request); });
  }
  int execute(KernelRequest& request) {
    const auto what = wire::load<StoreMessage>(request.message);
    if (!what) return EINVAL;
    EXPECT_EQ(request.flags, 0) << "our keys cannot be invalidated by a peer";
    if (what->error != 0) return static_cast<int>(what->error.value());
    const std::uint64_t at = what->offset;
    if (at + request.data_length > store.size()) return EIO;
    if (request.read) {
      std::copy_n(store.begin() + static_cast<long>(at), request.data_length, request.data.begin());
    } else {
      std::ranges::copy(request.data, store.begin() + static_cast<long>(at));
    }
    return 0;
  }
  void write_and_read_back(std::size_t length, std::uint64_t at = 0, std::size_t lane = 0) {
    Io write(Direction::write, at, length), read(Direction::read, at, length);
    fill(write.bytes(), at + length);
    EXPECT_FALSE(pair->run(write, lane));
    EXPECT_FALSE(pair->run(read, lane));
    EXPECT_TRUE(std::ranges::equal(read.bytes(), write.bytes()));
    EXPECT_TRUE(read.guards_intact());
  }
  std::error_code why_not_open() {
    EXPECT_FALSE(pair->open());
    return pair->why_closed_;
  }

  std::unique_ptr<Pair> pair;
  std::unique_ptr<KernelServer> server;
  std::vector<std::byte> store;
};

// ---- Establishment ----

TEST_F(KernelServerCases, C01_ConnectsWithTwoConnectionsToAServerThatRenewsKeys) {
  start({});
  ASSERT_TRUE(pair->open());
  EXPECT_EQ(pair->session().limits().queue_depth, 512U);
  EXPECT_EQ(pair->session().limits().max_io_size, 126976U);
  ASSERT_EQ(server->requests.size(), 2U);
  for (const auto& request : server->requests) {
    EXPECT_EQ(request.cid_num, 2);
    EXPECT_EQ(request.recon_cnt, 1);
    EXPECT_EQ(request.flags, 1);  // first_conn
  }
  EXPECT_EQ(server->infos.at(0).size(), 272U);
  write_and_read_back(4096);
}

TEST_F(KernelServerCases, C02_ConnectsToAServerWithOneRegionForAllChunks) {
  start({.always_invalidate = false});
  ASSERT_TRUE(pair->open());
  write_and_read_back(4096);
}

TEST_F(KernelServerCases, C03_ConnectsWithSixtyFiveConnections) {
  PairOptions options;
  options.client_loops = 64;
  start({.queue_depth = 256, .chunk_size = 8192}, options);
  ASSERT_TRUE(pair->open());
  EXPECT_EQ(server->requests.size(), 65U);
  for (std::size_t lane = 0; lane < 64; ++lane) write_and_read_back(4096, lane * 4096, lane);
}

TEST_F(KernelServerCases, C07_AnnouncesAtMost4096Connections) {
  start({});
  pair->options().session.poll_connections = 4095;  // one service and one IO connection besides
  EXPECT_EQ(pair->make_session().error(), from_errno(EINVAL));
  EXPECT_TRUE(server->requests.empty());
}

TEST_F(KernelServerCases, C08_AFurtherPathIsNoFirstConnectionUntilItWasAcceptedOnce) {
  PairOptions options;
  options.paths = 2;
  start({}, options);
  ASSERT_TRUE(pair->open());
  ASSERT_EQ(server->requests.size(), 4U);
  EXPECT_EQ(server->requests[1].flags, 1);
  EXPECT_EQ(server->requests[2].flags, 0);
  EXPECT_EQ(server->requests[3].flags, 1);
  EXPECT_EQ(server->requests[2].paths_uuid, server->requests[0].paths_uuid);
  EXPECT_NE(server->requests[2].sess_uuid, server->requests[0].sess_uuid);
  // With no path up either may bring the session back, with one up the other only joins it: a
  // server that knows nothing of the session would make a new one beside it.
  server->requests.clear();
  server->disconnect();
  ASSERT_TRUE(pair->world().run_until([&] { return server->requests.size() >= 4; }, 60s));
  std::vector<int> first_connections;
  for (const auto& request : server->requests) {
    if (request.cid == 0) first_connections.push_back(request.flags);
  }
  EXPECT_EQ(first_connections, (std::vector<int>{1, 0}));
}

TEST_F(KernelServerCases, C11_TwoPathsOverTheSameAddressesAreEexist) {
  start({});
  const fabric::PathAddress path{pair->client_host().address(), pair->server_address()};
  pair->options().session.paths = {path, path};
  EXPECT_EQ(why_not_open(), from_errno(EEXIST));
}

TEST_F(KernelServerCases, C04_C06_C09_C10_RefusalsArriveAsTheirErrno) {
  for (const int error : {ECONNRESET, ENXIO, ENOMEM, EBUSY}) {
    start({});
    server->refuse = error;
    EXPECT_EQ(why_not_open(), from_errno(error));
    server.reset();
  }
}

TEST_F(KernelServerCases, C14_NamesTheServerWouldRefuseAreRefusedHere) {
  start({});
  for (const char* name : {"a/b", "a.b", ""}) {
    pair->options().session.name = name;
    EXPECT_EQ(pair->make_session().error(), from_errno(EINVAL)) << name;
  }
  EXPECT_TRUE(server->requests.empty());
}

TEST_F(KernelServerCases, C13_C15_AClosedPathInsteadOfTheInfoResponseIsARefusedName) {
  start({});
  server->stale_names.insert("test");
  EXPECT_EQ(why_not_open(), Errc::session_refused);
  EXPECT_NE(pair->why_closed_.message().find("name"), std::string::npos);
}

TEST_F(KernelServerCases, C59_ANameStillHeldByTheDeadIsTriedForFortySeconds) {
  PairOptions options;
  options.session.name_patience = 40s;
  start({}, options);
  server->stale_names.insert("test");
  pair->start();
  pair->world().run_for(35s);
  EXPECT_FALSE(pair->closed_);
  server->stale_names.clear();  // heartbeats were missed
  ASSERT_TRUE(pair->world().run_until([&] { return pair->connected(); }, 6s));
  write_and_read_back(4096);
}

TEST_F(KernelServerCases, C59_ANameThatStaysTakenIsSaidAfterFortySeconds) {
  PairOptions options;
  options.session.name_patience = 41s;
  start({}, options);
  server->stale_names.insert("test");
  EXPECT_EQ(why_not_open(), Errc::session_refused);
  EXPECT_GE(pair->world().elapsed(), 40s);
  EXPECT_LE(pair->world().elapsed(), 50s);
}

TEST_F(KernelServerCases, C16_InfoIsSentWhenTheLastConnectionIsUp) {
  PairOptions options;
  options.client_loops = 7;
  start({}, options);
  pair->link().delay_connects(20ms);
  ASSERT_TRUE(pair->open());  // the server closes a path whose info comes early
  EXPECT_EQ(server->requests.size(), 8U);
  EXPECT_EQ(server->infos.size(), 1U);
}

TEST_F(KernelServerCases, C17_TheLongestNameArrivesWhole) {
  PairOptions options;
  options.session.name = std::string(254, 'n');
  start({}, options);
  ASSERT_TRUE(pair->open());
  EXPECT_EQ(wire::parse_info_request(server->infos.at(0)).value(), options.session.name);
  EXPECT_EQ(server->infos.at(0)[2 + 254], std::byte{0});
}

// ---- Data ----

TEST_F(KernelServerCases, C24_ADataLengthOfExactlyTheMaximumWorks) {
  for (const bool always_invalidate : {true, false}) {
    start({.queue_depth = 32, .always_invalidate = always_invalidate});
    ASSERT_TRUE(pair->open());
    write_and_read_back(126976);
    write_and_read_back(126975, 1);
    ASSERT_TRUE(pair->close_and_wait());
    server.reset();
  }
}

TEST_F(KernelServerCases, C26_MoreThanTheMaximumIsRefusedHereAndNothingIsSent) {
  start({.queue_depth = 32});
  ASSERT_TRUE(pair->open());
  for (const auto way : {Direction::read, Direction::write}) {
    Io io(way, 0, 126977);
    EXPECT_EQ(pair->run(io), Errc::too_long);
  }
  EXPECT_EQ(server->answered, 0U);
}

TEST_F(KernelServerCases, C37_EveryAnswersKeyIsUsedForTheNextRequestOfItsChunk) {
  start({.queue_depth = 4, .chunk_size = 8192});
  ASSERT_TRUE(pair->open());
  for (std::uint64_t i = 0; i < 500; ++i) write_and_read_back(64 + i % 512, i % 100 * 4096);
  EXPECT_EQ(pair->disconnects_, 0);
  EXPECT_EQ(server->answered, 1000U);
}

TEST_F(KernelServerCases, C38_ErrorsLeaveTheirChunkUsable) {
  for (const bool always_invalidate : {true, false}) {
    start({.queue_depth = 4, .chunk_size = 8192, .always_invalidate = always_invalidate});
    ASSERT_TRUE(pair->open());
    for (int i = 0; i < 40; ++i) {
      const int error = i % 3 == 0 ? 0 : i % 3 == 1 ? EIO : ENOTCONN;
      Io io(i % 2 == 0 ? Direction::read : Direction::write, 0, 512, error);
      EXPECT_EQ(pair->run(io), from_errno(error));
    }
    EXPECT_EQ(pair->disconnects_, 0);
    ASSERT_TRUE(pair->close_and_wait());
    server.reset();
  }
}

TEST_F(KernelServerCases, C39_FullDepthOnOneConnectionAndOverAll) {
  for (const std::size_t lanes : {1U, 4U}) {
    PairOptions options = impatient();
    options.client_loops = lanes;
    start({.queue_depth = 128, .chunk_size = 8192}, options);
    ASSERT_TRUE(pair->open());
    server->hold = true;
    std::vector<std::unique_ptr<Io>> ios;
    for (std::size_t i = 0; i < 300; ++i) {
      ios.push_back(std::make_unique<Io>(Direction::read, i * 4096, 4096));
      pair->submit(*ios.back(), i % lanes);
    }
    pair->world().run_for(100ms);
    // All but those kept for administration.
    EXPECT_GE(server->held(), 128U - 32U);
    EXPECT_LE(server->held(), 128U);
    server->answer_held();
    EXPECT_TRUE(pair->world().run_until(
        [&] { return std::ranges::all_of(ios, [](auto& io) { return io->completions == 1; }); },
        10s));
    for (const auto& io : ios) EXPECT_FALSE(io->result);
    ASSERT_TRUE(pair->close_and_wait());
    server.reset();
  }
}

TEST_F(KernelServerCases, C40_QueueDepthsThatAreNoPowerOfTwo) {
  for (const std::uint32_t depth : {2U, 3U, 100U, 300U}) {
    for (const bool always_invalidate : {true, false}) {
      start({.queue_depth = depth,
             .chunk_size = 16384,
             .always_invalidate = always_invalidate,
             .regions = depth % 2 == 0 ? 2U : 1U});
      ASSERT_TRUE(pair->open());
      EXPECT_EQ(pair->session().limits().queue_depth, depth);
      std::vector<std::unique_ptr<Io>> ios;
      for (std::size_t i = 0; i < 2 * depth; ++i) {
        ios.push_back(std::make_unique<Io>(Direction::write, i * 512, 512));
        fill(ios.back()->bytes(), i);
        pair->submit(*ios.back());
      }
      ASSERT_TRUE(pair->world().run_until(
          [&] { return std::ranges::all_of(ios, [](auto& io) { return io->completions == 1; }); },
          10s));
      for (std::size_t i = 0; i < ios.size(); ++i) {
        EXPECT_TRUE(std::ranges::equal(ios[i]->bytes(), std::span(store).subspan(i * 512, 512)));
      }
      ASSERT_TRUE(pair->close_and_wait());
      server.reset();
    }
  }
}

TEST_F(KernelServerCases, C41_ChunksFrom8192BytesToAMebibyte) {
  for (const std::uint32_t size : {8192U, 65536U, 1048576U}) {
    start({.queue_depth = 4, .chunk_size = size});
    ASSERT_TRUE(pair->open());
    EXPECT_EQ(pair->session().limits().max_io_size, size - 4096);
    write_and_read_back(size - 4096);
    write_and_read_back(1);
    ASSERT_TRUE(pair->close_and_wait());
    server.reset();
  }
}

// ---- Life and loss ----

TEST_F(KernelServerCases, C42_AnIdleSessionAnswersEveryHeartbeat) {
  start({});
  ASSERT_TRUE(pair->open());
  for (int i = 0; i < 60; ++i) {
    server->heartbeat();
    server->heartbeats.clear();
    pair->world().run_for(5s);
    EXPECT_TRUE(server->heartbeats.contains(wire::kHeartbeatAckImmediate));
  }
  EXPECT_EQ(pair->disconnects_, 0);
}

TEST_F(KernelServerCases, C43_AFrozenServerIsFoundWithin30To35Seconds) {
  start({});
  ASSERT_TRUE(pair->open());
  pair->server_host().freeze(100s);
  const auto since = pair->world().elapsed();
  ASSERT_TRUE(pair->world().run_until([&] { return pair->disconnects_ == 1; }, 60s));
  EXPECT_GE(pair->world().elapsed() - since, 30s);
  EXPECT_LE(pair->world().elapsed() - since, 36s);
  EXPECT_EQ(pair->why_disconnected_, Errc::heartbeat_lost);
  pair->world().run_for(100s);
}

TEST_F(KernelServerCases, C45_ADisconnectByTheServerIsReconnectedUnderTheSameIdentity) {
  start({});
  ASSERT_TRUE(pair->open());
  server->requests.clear();
  server->disconnect();
  ASSERT_TRUE(pair->world().run_until([&] { return pair->connects_ == 2; }, 60s));
  ASSERT_EQ(server->requests.size(), 2U);
  const auto identity = pair->session().identity();
  for (const auto& request : server->requests) {
    EXPECT_EQ(request.sess_uuid, identity.paths[0].uuid);
    EXPECT_EQ(request.paths_uuid, identity.uuid);
    EXPECT_EQ(request.recon_cnt, 2);
    EXPECT_EQ(request.flags, 1);
  }
  write_and_read_back(4096);
}

TEST_F(KernelServerCases, C47_AnotherQueueDepthAfterAReloadEndsTheSessionAndSaysSo) {
  start({.queue_depth = 64});
  ASSERT_TRUE(pair->open());
  server->reload({.queue_depth = 32});
  ASSERT_TRUE(pair->world().run_until([&] { return pair->closed_; }, 60s));
  EXPECT_EQ(pair->why_closed_, Errc::queue_depth_changed);
  EXPECT_NE(pair->why_closed_.message().find("queue depth"), std::string::npos);
}

TEST_F(KernelServerCases, C48_TheLossOfOneOfTwoPathsEndsItsRequestsAndNoOthers) {
  PairOptions options;
  options.paths = 2;
  options.session.policy = PathPolicy::round_robin;
  start({.queue_depth = 32, .chunk_size = 16384}, options);
  ASSERT_TRUE(pair->open());
  server->hold = true;
  std::vector<std::unique_ptr<Io>> ios;
  for (std::size_t i = 0; i < 10; ++i) {
    ios.push_back(std::make_unique<Io>(Direction::write, i * 4096, 4096));
    pair->submit(*ios.back());
  }
  pair->world().run_for(10ms);
  pair->link(1).cut();
  pair->world().run_for(10ms);
  server->answer_held();
  ASSERT_TRUE(pair->world().run_until(
      [&] { return std::ranges::all_of(ios, [](auto& io) { return io->completions == 1; }); },
      10s));
  const auto lost =
      std::ranges::count_if(ios, [](auto& io) { return io->result == Errc::path_lost; });
  const auto good = std::ranges::count_if(ios, [](auto& io) { return !io->result; });
  EXPECT_EQ(lost, 5);
  EXPECT_EQ(good, 5);
  EXPECT_EQ(pair->disconnects_, 0);
  write_and_read_back(4096);
  pair->link(1).heal();
}

TEST_F(KernelServerCases, C62_TheServiceLaneUsesConnectionZero) {
  PairOptions options;
  options.client_loops = 2;
  start({}, options);
  ASSERT_TRUE(pair->open());
  write_and_read_back(100, 0, Pair::kService);
  EXPECT_EQ(server->io_on_service, 2U);
  write_and_read_back(100, 0, 1);
  EXPECT_EQ(server->io_on_service, 2U);
}

// ---- A process that takes over (R16) ----

TEST_F(KernelServerCases, R16_ASuccessorConnectsAsAReconnectOfItsPredecessor) {
  start({});
  client::SessionIdentity identity{.uuid = {1, 2, 3}, .paths = {}};
  const fabric::PathAddress path{pair->client_host().address(), pair->server_address()};
  identity.paths.push_back({path, {4, 5, 6}, 65535});
  pair->options().session.resume = identity;
  server->refuse = EBUSY;  // it has not drained yet
  pair->start();
  pair->world().run_for(3s);
  EXPECT_FALSE(pair->closed_);
  EXPECT_EQ(pair->connects_, 0);
  server->refuse = 0;
  const std::size_t refused = server->requests.size();
  EXPECT_GT(refused, 2U);
  ASSERT_TRUE(pair->world().run_until([&] { return pair->connects_ == 1; }, 60s));
  // Counted on from there, with room for attempts that were not saved; 16 bits.
  EXPECT_EQ(server->requests.front().recon_cnt, 1000);
  for (std::size_t i = 0; i < server->requests.size(); ++i) {
    const auto& request = server->requests[i];
    EXPECT_EQ(request.sess_uuid, identity.paths[0].uuid);
    EXPECT_EQ(request.paths_uuid, identity.uuid);
    EXPECT_EQ(request.flags, 1);
    EXPECT_EQ(request.recon_cnt, 1000 + std::min(i, refused));
  }
}

}  // namespace
}  // namespace rnbd::rtrs::testing
