// A server against clients that break the rules: each fault ends that path and nothing else.

#include <gtest/gtest.h>

#include "rtrs/testing/raw.h"

namespace rnbd::rtrs::testing {
namespace {

// A server with an honest session that must not notice anything of what the hostile client does.
class HostileClient : public ::testing::Test {
 protected:
  HostileClient() : pair(make_options()) {
    set_log_options({.program = "rnbd", .level = LogLevel::off});
    EXPECT_TRUE(pair.open());
  }
  ~HostileClient() override {
    Io io(Direction::read, 0, 100);
    EXPECT_FALSE(pair.run(io)) << "the honest session suffered";
    EXPECT_EQ(pair.connects_, 1);
    EXPECT_TRUE(pair.store().mistakes().empty());
    EXPECT_TRUE(pair.close_and_wait());
    EXPECT_TRUE(pair.world().run_until([&] { return pair.store().live().empty(); }, 30s));
    set_log_options({});
  }
  static PairOptions make_options() {
    PairOptions options;
    options.client_loops = 2;
    options.server_loops = 2;
    options.server.max_sessions = 4;
    options.server.max_connections_per_path = 8;
    options.world.check_posted_bytes = false;  // a hostile client writes into what it is being sent
    return options;
  }
  std::error_code refusal(const wire::ConnectRequest& request) {
    RawClient client(pair);
    const auto& end = client.connect(request);
    return end.refused.value_or(std::error_code{});
  }
  wire::ConnectRequest good() { return RawClient(pair, 2, ++seed_).request; }

  Pair pair;
  std::uint64_t seed_ = 100;
};

const auto kReset = from_errno(ECONNRESET);

// The cases of docs/interop.md: what a client of the kernel never does, or does now and then.
class HostileClientCases : public HostileClient {};

TEST_F(HostileClientCases, C04_C05_C06_C07_S32_ConnectRequestsOfBadFormAreRefusedAsTheKernelDoes) {
  const auto layout = wire::encode_connect_request(good());
  const auto refused = [&](auto change, std::size_t length = sizeof(wire::layout::ConnectRequest)) {
    auto copy = layout;
    change(copy);
    RawClient client(pair);
    return client.connect_bytes(wire::bytes_of(copy).first(length)).refused;
  };
  EXPECT_EQ(refused([](auto& r) { r.magic = 0x1234; }), kReset);
  EXPECT_EQ(refused([](auto& r) { r.version = 0x0100; }), kReset);
  EXPECT_EQ(refused([](auto& r) { r.version = 0x0300; }), kReset);
  EXPECT_EQ(refused([](auto& r) { r.cid = 2; }), kReset);
  EXPECT_EQ(refused([](auto& r) { r.cid_num = 0; }), kReset);
  EXPECT_EQ(refused([](auto& r) { r.cid_num = 9; }), kReset);
  EXPECT_EQ(refused([](auto& r) { r.cid_num = 4097; }), kReset);
  EXPECT_EQ(refused([](auto&) {}, 55), kReset);
  EXPECT_EQ(refused([](auto&) {}, 0), kReset);
  EXPECT_EQ(refused([](auto& r) { r.version = 0x0263; }), std::nullopt);  // any minor is fine
}

TEST_F(HostileClientCases, C08_S32_UnknownSessionWithoutFirstConnIsRefusedWithEnxio) {
  auto request = good();
  request.first_conn = false;
  EXPECT_EQ(refusal(request), from_errno(ENXIO));
}

TEST_F(HostileClientCases, C09_C10_ConnectionsThatDoNotFitTheirPathAreRefused) {
  RawClient client(pair, 3);
  ASSERT_TRUE(client.connect(client.request).connected);
  EXPECT_EQ(client.connect(client.request).refused, kReset);  // cid 0 again
  auto other = client.request;
  other.cid = 1;
  other.cid_num = 4;
  EXPECT_EQ(client.connect(other).refused, kReset);
  other = client.request;
  other.cid = 1;
  other.recon_cnt = 2;  // of another attempt
  EXPECT_EQ(client.connect(other).refused, kReset);
  other.recon_cnt = 1;
  EXPECT_TRUE(client.connect(other).connected);
}

TEST_F(HostileClientCases, C11_S32_ASecondPathOverTheSameAddressesIsRefusedWithEexist) {
  RawClient client(pair);
  ASSERT_TRUE(client.connect(client.request).connected);
  auto other = client.request;
  other.sess_uuid = good().sess_uuid;
  EXPECT_EQ(client.connect(other).refused, from_errno(EEXIST));
}

TEST_F(HostileClient, AConnectedPathTakesNoMoreConnections) {
  RawClient client(pair);
  client.establish();
  EXPECT_EQ(client.connect(client.request).refused, kReset);
}

TEST_F(HostileClient, S4_SessionsBeyondTheLimitAreRefusedAndRoomComesBack) {
  std::vector<std::unique_ptr<RawClient>> clients;
  for (std::uint64_t i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<RawClient>(pair, 2, 1000 + i));
    EXPECT_TRUE(clients.back()->connect(clients.back()->request).connected);
  }
  EXPECT_EQ(refusal(good()), from_errno(EUSERS));
  clients.pop_back();
  pair.world().run_for(100ms);
  EXPECT_EQ(refusal(good()), std::error_code{});
}

TEST_F(HostileClientCases, S31_K13_AHalfOpenPathIsReapedAtEveryStep) {
  for (const int connections : {1, 2, 3}) {
    RawClient client(pair, 3, static_cast<std::uint64_t>(connections));
    for (int cid = 0; cid < connections; ++cid) {
      auto request = client.request;
      request.cid = static_cast<std::uint16_t>(cid);
      ASSERT_TRUE(client.connect(request).connected);
    }
    const auto since = pair.world().elapsed();
    ASSERT_TRUE(pair.world().run_until([&] { return client.all_closed(); }, 10s));
    EXPECT_LE(pair.world().elapsed() - since, pair.options().server.handshake_timeout + 100ms);
    // The place is free again.
    RawClient again(pair, 3, static_cast<std::uint64_t>(connections));
    again.establish("again" + std::to_string(connections));
  }
}

TEST_F(HostileClientCases, C16_K5_InfoBeforeAllConnectionsExistClosesThePath) {
  for (const std::uint16_t missing : std::initializer_list<std::uint16_t>{1, 2}) {
    RawClient client(pair, 3, missing);
    for (std::uint16_t cid = 0; cid < 3; ++cid) {
      auto request = client.request;
      request.cid = cid;
      if (cid == missing) continue;
      ASSERT_TRUE(client.connect(request).connected);
    }
    client.send_info("early");
    EXPECT_TRUE(client.dropped());
  }
}

TEST_F(HostileClientCases, C13_C14_BadInfoRequestsCloseThePath) {
  const auto good_info = wire::encode_info_request("name");
  const auto drops = [&](auto change, std::size_t length = sizeof(wire::layout::InfoRequest)) {
    RawClient client(pair, 2, ++seed_);
    client.connect_path();
    auto info = good_info;
    change(info);
    client.ends[0]->send(wire::bytes_of(info).first(length));
    return client.dropped();
  };
  EXPECT_TRUE(drops([](auto&) {}, 271));
  EXPECT_TRUE(drops([](auto&) {}, 0));
  EXPECT_TRUE(drops([](auto& info) { info.type = 1; }));
  EXPECT_TRUE(drops([](auto& info) { info.name[1] = '/'; }));
  EXPECT_TRUE(drops([](auto& info) { info.name[1] = '.'; }));
  EXPECT_TRUE(drops([](auto& info) { info.name[0] = 0; }));
  EXPECT_TRUE(drops([](auto& info) { info.name.fill('x'); }));  // unterminated
}

TEST_F(HostileClientCases, S33_K17_TheNameOfALiveSessionIsRefused) {
  RawClient client(pair);
  client.connect_path();
  client.send_info("test");
  EXPECT_TRUE(client.dropped());
}

TEST_F(HostileClient, ImmediatesAndSendsOutOfPlaceCloseThePath) {
  const auto drops = [&](auto act) {
    RawClient client(pair, 2, ++seed_);
    client.connect_path();
    act(client);
    return client.dropped();
  };
  EXPECT_TRUE(drops([](RawClient& c) { c.ends[0]->immediate(0); }));  // a request before info
  EXPECT_TRUE(drops([](RawClient& c) { c.ends[1]->immediate(0); }));
  EXPECT_TRUE(drops([](RawClient& c) { c.ends[1]->send({}); }));
  EXPECT_TRUE(drops([](RawClient& c) {
    c.send_info("a");
    c.send_info("a");
  }));
  EXPECT_TRUE(drops([](RawClient& c) {
    c.send_info("a");
    c.ends[1]->immediate(wire::encode_response(0, 0));  // we are no client
  }));
}

TEST_F(HostileClientCases, S34_HeartbeatsAreAnsweredAndAFloodOfThemIsHarmless) {
  RawClient client(pair);
  client.establish();
  for (int i = 0; i < 500; ++i) client.ends[0]->immediate(wire::kHeartbeatImmediate);
  pair.world().run_for(50ms);
  ASSERT_FALSE(client.all_closed());
  const auto& answers = client.ends[0]->immediates;
  EXPECT_GT(answers.size(), 0U);
  EXPECT_TRUE(
      std::ranges::all_of(answers, [](auto imm) { return imm == wire::kHeartbeatAckImmediate; }));
  client.ends[0]->immediate(0xf0000000);  // a type nobody knows
  client.write_request(*client.ends[1], 0, 10, sizeof(StoreMessage));
  EXPECT_TRUE(client.answered(*client.ends[1]));
}

TEST_F(HostileClientCases, C44_AClientThatNeverAnswersHeartbeatsIsClosed) {
  RawClient client(pair);
  client.establish();
  EXPECT_TRUE(pair.world().run_until([&] { return client.all_closed(); }, 40s));
}

// ---- Requests ----

TEST_F(HostileClientCases, S48_RequestsWithImpossiblePlacesCloseThePath) {
  const auto drops = [&](std::uint32_t immediate) {
    RawClient client(pair, 2, ++seed_);
    client.establish("raw" + std::to_string(seed_));
    client.ends[1]->immediate(immediate);
    return client.dropped();
  };
  const wire::RequestImmediate immediate(16);
  EXPECT_TRUE(drops(immediate.encode(0, 16384)));  // offset at the end of the chunk
  EXPECT_TRUE(drops(immediate.encode(0, 0xffffff)));
  EXPECT_TRUE(drops(immediate.encode(3, 16383)));  // the message runs past the chunk
}

TEST(HostileChunkCases, S47_AChunkIdBeyondTheDepthClosesThePath) {
  PairOptions options;
  options.server.queue_depth = 5;  // ids 5 to 7 can be said
  Pair pair(options);
  for (const std::uint32_t chunk : {5U, 7U}) {
    RawClient client(pair, 2, chunk);
    client.establish();
    client.ends[1]->immediate(wire::RequestImmediate(5).encode(chunk, 0));
    EXPECT_TRUE(client.dropped());
    pair.world().run_for(100ms);
  }
}

TEST_F(HostileClient, UnknownMessageTypesCloseThePath) {
  for (const std::uint16_t type : std::initializer_list<std::uint16_t>{0, 1, 4, 5, 0xffff}) {
    RawClient client(pair, 2, ++seed_);
    client.establish("raw" + std::to_string(seed_));
    wire::layout::ReadMessage message{};
    message.type = type;
    client.read_request(*client.ends[1], 0, 0, wire::bytes_of(message));
    EXPECT_TRUE(client.dropped());
  }
}

TEST_F(HostileClientCases, S46_K2_UserLengthBeyondTheOffsetClosesThePath) {
  constexpr std::uint32_t kOffset = 100 + sizeof(StoreMessage);
  for (const std::uint32_t usr_len : {0U, kOffset - 1, kOffset, kOffset + 1, 65535U}) {
    RawClient client(pair, 2, ++seed_);
    client.establish("raw" + std::to_string(seed_));
    client.write_request(*client.ends[1], 0, 100, static_cast<std::uint16_t>(usr_len));
    if (usr_len > kOffset) {
      EXPECT_TRUE(client.dropped()) << usr_len;
    } else {
      EXPECT_TRUE(client.answered(*client.ends[1])) << usr_len;
    }
  }
}

TEST_F(HostileClientCases, S50_K1_ReplyLengthsOtherThanTheRoomAreAnsweredWithEinval) {
  constexpr std::uint32_t kRoom = 512;
  for (const std::uint32_t length :
       {0U, 1U, kRoom - 1, kRoom, kRoom + 1, 16384U, 16385U, 0x80000000U, 0xffffffffU}) {
    RawClient client(pair, 2, ++seed_);
    client.establish("raw" + std::to_string(seed_));
    std::vector<std::byte> target(40000, std::byte{0x77});
    const iovec local{target.data(), target.size()};
    const auto span = client.ends[1]->connection->expose(0, {&local, 1}).value();
    const auto message =
        wire::encode_read(sizeof(StoreMessage), {span.address, span.key, length}, false);
    client.read_request(*client.ends[1], 0, kRoom, message.view());
    pair.world().run_for(100ms);
    const auto written =
        std::ranges::count_if(target, [](std::byte b) { return b != std::byte{0x77}; });
    if (length == kRoom) {
      EXPECT_EQ(written, kRoom);
      continue;
    }
    EXPECT_EQ(written, 0) << length;
    const RawEnd& end = *client.ends[1];
    ASSERT_FALSE(end.immediates.empty()) << length;
    EXPECT_EQ(end.immediates[0], wire::encode_response(0, EINVAL)) << length;
    EXPECT_FALSE(client.all_closed()) << length;
    client.ends[1]->connection->hide(0);
  }
}

TEST_F(HostileClientCases, S49_MoreThanOneDescriptorIsAnsweredWithEinval) {
  for (const std::uint16_t count : std::initializer_list<std::uint16_t>{2, 256, 65535}) {
    RawClient client(pair, 2, ++seed_);
    client.establish("raw" + std::to_string(seed_));
    wire::layout::ReadMessage message{};
    message.type = static_cast<std::uint16_t>(wire::RtrsType::read);
    message.usr_len = sizeof(StoreMessage);
    message.descriptor_count = count;
    client.read_request(*client.ends[1], 0, 512, wire::bytes_of(message));
    ASSERT_TRUE(client.answered(*client.ends[1]));
    EXPECT_EQ(client.ends[1]->immediates[0], wire::encode_response(0, EINVAL));
    client.write_request(*client.ends[1], 0, 100, sizeof(StoreMessage));  // the path lives on
    ASSERT_TRUE(client.answered(*client.ends[1], 2));
    EXPECT_EQ(client.ends[1]->immediates[1], wire::encode_response(0, 0));
  }
}

// Where the fabric cannot invalidate a peer's key the answer says so by its type, and the kernel's
// client does it itself.
TEST(HostileClientFabricCases, S08_WithoutRemoteInvalidationTheAnswerIsThePlainOne) {
  PairOptions options;
  options.server_fabric.remote_invalidate = false;
  Pair pair(options);
  RawClient client(pair);
  client.establish();
  for (const int error : {0, EIO}) {
    std::vector<std::byte> target(512);
    const iovec local{target.data(), target.size()};
    auto& end = *client.ends[1];
    const auto span = end.connection->expose(0, {&local, 1}).value();
    const auto message =
        wire::encode_read(sizeof(StoreMessage), {span.address, span.key, 512}, true);
    StoreMessage what{};
    what.error = static_cast<std::uint32_t>(error);
    end.immediates.clear();
    client.read_request(end, 1, 512, message.view(), what);
    ASSERT_TRUE(client.answered(end));
    EXPECT_TRUE(end.invalidated.empty());
    EXPECT_EQ(end.immediates.back(), wire::encode_response(1, error));
    end.connection->hide(0);
  }
}

TEST_F(HostileClientCases, S09_AnswersAskedForWithInvalidationGetIt) {
  RawClient client(pair);
  client.establish();
  for (const int error : {0, EIO}) {
    std::vector<std::byte> target(512);
    const iovec local{target.data(), target.size()};
    auto& end = *client.ends[1];
    const auto span = end.connection->expose(0, {&local, 1}).value();
    const auto message =
        wire::encode_read(sizeof(StoreMessage), {span.address, span.key, 512}, true);
    StoreMessage what{};
    what.error = static_cast<std::uint32_t>(error);
    end.immediates.clear();
    end.invalidated.clear();
    client.read_request(end, 1, 512, message.view(), what);
    ASSERT_TRUE(client.answered(end));
    EXPECT_EQ(end.invalidated, std::vector{span.key});
    EXPECT_EQ(end.immediates.back(), wire::encode_response(1, error, true));
  }
}

TEST_F(HostileClient, R2_ARequestOnABusyChunkClosesThePath) {
  RawClient client(pair);
  client.establish();
  StoreMessage slow{};
  slow.delay_us = 100000;
  client.write_request(*client.ends[1], 3, 10, sizeof(StoreMessage), slow);
  pair.world().run_for(1ms);
  client.ends[0]->immediate(wire::RequestImmediate(16).encode(3, 10));
  EXPECT_TRUE(client.dropped());
  EXPECT_EQ(pair.store().requests(), 1U);
}

TEST_F(HostileClient, S6_WritingToABusyChunkIsAFaultOfTheWriter) {
  RawClient client(pair);
  client.establish();
  StoreMessage slow{};
  slow.delay_us = 100000;
  client.write_request(*client.ends[1], 3, 10, sizeof(StoreMessage), slow);
  pair.world().run_for(1ms);
  const auto& chunk = client.chunks[3];
  const std::array<std::byte, 4> bytes{};
  client.ends[1]->post({.op = fabric::Work::Op::write, .remote = {chunk.address, chunk.key, 0}},
                       bytes);
  EXPECT_TRUE(client.dropped());
}

TEST_F(HostileClient, S7_KeysOfAnotherSessionDoNotWork) {
  RawClient one(pair, 2, 1);
  RawClient two(pair, 2, 2);
  one.establish("one");
  two.establish("two");
  const std::array<std::byte, 4> bytes{};
  const auto& chunk = one.chunks[0];
  two.ends[1]->post({.op = fabric::Work::Op::write, .remote = {chunk.address, chunk.key, 0}},
                    bytes);
  EXPECT_TRUE(two.dropped());
  one.write_request(*one.ends[1], 0, 10, sizeof(StoreMessage));
  EXPECT_TRUE(one.answered(*one.ends[1]));
}

TEST_F(HostileClientCases, S38_RequestsMayComeOnAnyConnection) {
  RawClient client(pair, 4);
  client.establish();
  for (auto& end : client.ends) {
    client.write_request(*end, 0, 100, sizeof(StoreMessage));
    ASSERT_TRUE(client.answered(*end));
    EXPECT_EQ(end->immediates.back(), wire::encode_response(0, 0));
  }
}

TEST_F(HostileClient, AClientThatNeverReadsItsAnswersCostsABoundedAmount) {
  RawClient client(pair);
  client.establish();
  pair.link().black_hole_towards(pair.client_host());
  for (std::uint32_t i = 0; i < 400; ++i) {
    client.write_request(*client.ends[1], i % 16, 10, sizeof(StoreMessage));
    pair.world().run_for(100us);
  }
  pair.link().heal();
  pair.world().run_for(100ms);  // answered or dropped, and the honest session goes on
}

}  // namespace
}  // namespace rnbd::rtrs::testing
