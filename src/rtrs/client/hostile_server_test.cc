// A client against servers that break the rules: no fault of theirs harms more than that path
// (S16).

#include <gtest/gtest.h>

#include "rtrs/testing/raw.h"

namespace rnbd::rtrs::testing {
namespace {

// Plays a server: every connection of the client is one RawEnd; what it says is the test's to
// choose.
class RawServer final : fabric::ListenHandler {
 public:
  explicit RawServer(Pair& pair)
      : pair_(pair), fabric_(pair.server_host().add_fabric(nullptr, pair.options().server_fabric)) {
    domain_ = fabric_.create_domain(fabric::PathAddress{}).value();
    memory_ = domain_->register_memory({.size = kDepth * kChunk}).value();
    answer = wire::encode_connect_accept(
        {.queue_depth = kDepth, .max_io_size = kChunk - 4096, .max_hdr_size = 4096});
    const auto span = memory_->remote(0, kDepth * kChunk);
    regions = {{span.address, span.key, kDepth * kChunk}};
    listener_ = fabric_.listen(pair.server_address(), *this).value();
  }
  ~RawServer() override {
    listener_.reset();
    for (auto& end : ends) end->close();
    EXPECT_TRUE(pair_.world().run_until(
        [&] { return std::ranges::all_of(ends, [](const auto& end) { return !end->connection; }); },
        30s));
    memory_.reset();
  }

  static constexpr std::uint16_t kDepth = 8;
  static constexpr std::uint32_t kChunk = 16384;

  // The number of the request's chunk, from the immediate of the client.
  static std::uint32_t chunk_of(std::uint32_t immediate) {
    return wire::RequestImmediate(kDepth).decode(immediate).chunk;
  }
  // Where a read wants its answer.
  wire::IoRequest parse(std::uint32_t immediate) {
    const auto [chunk, offset] = wire::RequestImmediate(kDepth).decode(immediate);
    const auto bytes = memory_->bytes().subspan(chunk * kChunk + offset);
    return wire::parse_io_request(bytes.first(std::min<std::size_t>(bytes.size(), 24)), offset,
                                  4096)
        .value();
  }
  void respond(std::uint32_t immediate, int error = 0) {
    ends.back()->immediate(wire::encode_response(chunk_of(immediate), error));
  }

  wire::layout::ConnectResponse answer;
  std::size_t answer_size = sizeof(answer);
  int refuse = 0;  // with this errno
  bool mute_info = false;
  std::vector<wire::Descriptor> regions;
  std::optional<std::vector<std::byte>> info_response;     // instead of a good one
  std::function<void(RawEnd&, std::uint32_t)> on_request;  // any immediate on connection 1
  std::vector<std::unique_ptr<RawEnd>> ends;

 private:
  void on_connect_request(std::unique_ptr<fabric::IncomingConnection> incoming) override {
    if (refuse != 0) {
      return fabric_.reject(std::move(incoming),
                            wire::bytes_of(wire::encode_connect_reject(refuse)).first(answer_size));
    }
    ends.push_back(std::make_unique<RawEnd>());
    RawEnd& end = *ends.back();
    end.accept(fabric_, *domain_, std::move(incoming), wire::bytes_of(answer).first(answer_size));
    end.on_event = [this, &end, first = ends.size() % 2 == 1, told = false,
                    seen = std::size_t{0}]() mutable {
      if (first && !told && !end.sends.empty() && !mute_info) {
        told = true;
        end.send(info_response ? *info_response : wire::encode_info_response(regions));
      }
      for (; !first && seen < end.immediates.size(); ++seen) {
        if (on_request) on_request(end, end.immediates[seen]);
      }
    };
  }
  Pair& pair_;
  SimFabric& fabric_;
  std::unique_ptr<fabric::Domain> domain_;
  std::unique_ptr<fabric::Memory> memory_;
  std::unique_ptr<fabric::Listener> listener_;
};

class HostileServer : public ::testing::Test {
 protected:
  HostileServer() : pair(make_options()) {
    set_log_options({.program = "rnbd", .level = LogLevel::off});
    EXPECT_TRUE(pair.stop_server_and_wait());
    server = std::make_unique<RawServer>(pair);
  }
  ~HostileServer() override {
    pair.close();
    EXPECT_TRUE(pair.world().run_until([&] { return !pair.session_alive(); }, 60s));
    server.reset();
    set_log_options({});
  }
  static PairOptions make_options() {
    PairOptions options;
    options.session.connect_timeout = 500ms;
    options.session.name_patience = {};
    return options;
  }
  // Opens against the server as it is now; success, or why not.
  std::error_code open() {
    pair.closed_ = pair.closing_ = false;
    pair.connects_ = 0;
    if (pair.open()) {
      EXPECT_TRUE(pair.close_and_wait());
      return {};
    }
    return pair.why_closed_;
  }
  void expect_path_lost(Io& io) {
    pair.submit(io);
    ASSERT_TRUE(pair.world().run_until([&] { return io.completions == 1; }, 10s));
    EXPECT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 10s));
    EXPECT_EQ(pair.why_disconnected_, Errc::protocol_violation);
    pair.world().run_for(20ms);
    EXPECT_EQ(io.completions, 1);
    EXPECT_FALSE(io.changed_after_completion());
    EXPECT_TRUE(io.guards_intact());
  }

  Pair pair;
  std::unique_ptr<RawServer> server;
};

TEST_F(HostileServer, TheHonestOneWorks) { EXPECT_EQ(open(), std::error_code{}); }

TEST_F(HostileServer, RefusalsArriveAsTheirErrno) {
  for (const int error : {ECONNRESET, EEXIST, ENOMEM, ENXIO, EBUSY}) {
    server->refuse = error;
    EXPECT_EQ(open(), from_errno(error));
  }
  server->answer_size = 0;
  EXPECT_EQ(open(), Errc::connect_rejected);
}

TEST_F(HostileServer, AnswersThatAreNotRtrsAreToldApart) {
  const auto good = server->answer;
  server->answer.magic = 0x1234;
  EXPECT_EQ(open(), Errc::not_rtrs_peer);
  server->answer = good;
  server->answer.version = 0x0300;
  EXPECT_EQ(open(), Errc::version_mismatch);
  server->answer = good;
  server->answer_size = 20;
  EXPECT_EQ(open(), Errc::not_rtrs_peer);
}

TEST_F(HostileServer, S16_ImpossibleSizesAreRefused) {
  const auto good = server->answer;
  const auto refused = [&](std::uint16_t depth, std::uint32_t io, std::uint32_t header) {
    server->answer = good;
    server->answer.queue_depth = depth;
    server->answer.max_io_size = io;
    server->answer.max_hdr_size = header;
    return open() == Errc::bad_geometry;
  };
  EXPECT_TRUE(refused(0, 12288, 4096));
  EXPECT_TRUE(refused(1, 12288, 4096));
  for (const std::uint32_t size : {0U, 1U, 0xffffffffU}) {
    EXPECT_TRUE(refused(8, size, 4096)) << size;
    EXPECT_TRUE(refused(8, 12288, size)) << size;
  }
  EXPECT_TRUE(refused(65535, 12288, 4096));  // does not fit 28 bits
}

TEST_F(HostileServer, S16_BadChunkTablesAreRefused) {
  const auto good = server->regions;
  const auto refused = [&](std::vector<wire::Descriptor> regions) {
    server->regions = std::move(regions);
    return bool{open()};
  };
  auto longer = good;
  longer[0].length += RawServer::kChunk;
  EXPECT_TRUE(refused(longer));
  auto shorter = good;
  shorter[0].length -= 1;
  EXPECT_TRUE(refused(shorter));
  auto zero = good;
  zero[0].length = 0;
  EXPECT_TRUE(refused(zero));
  EXPECT_TRUE(refused({good[0], good[0]}));
  EXPECT_TRUE(
      refused(std::vector<wire::Descriptor>(3, {good[0].address, good[0].key, RawServer::kChunk})));
  server->regions = good;
  EXPECT_EQ(open(), std::error_code{});
}

TEST_F(HostileServer, BadInfoResponsesAreRefused) {
  const auto good = wire::encode_info_response(server->regions);
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, good.size() - 1}) {
    server->info_response =
        std::vector<std::byte>(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_TRUE(open()) << size;
  }
  server->info_response = good;
  (*server->info_response)[2] = std::byte{0};  // no region at all
  EXPECT_TRUE(open());
  server->info_response = good;
  (*server->info_response)[0] = std::byte{7};
  EXPECT_TRUE(open());
  server->info_response = std::vector<std::byte>(4000);  // more than was asked for
  EXPECT_TRUE(open());
}

TEST_F(HostileServer, SilenceInsteadOfInfoEndsInTheTimeout) {
  server->mute_info = true;
  EXPECT_EQ(open(), Errc::handshake_timeout);
}

TEST_F(HostileServer, ACloseInsteadOfInfoIsToldApart) {
  server->mute_info = true;
  pair.start();
  ASSERT_TRUE(pair.world().run_until(
      [&] { return server->ends.size() == 2 && !server->ends[0]->sends.empty(); }, 5s));
  for (auto& end : server->ends) end->close();
  ASSERT_TRUE(pair.world().run_until([&] { return pair.closed_; }, 5s));
  EXPECT_EQ(pair.why_closed_, Errc::session_refused);
}

TEST_F(HostileServer, S16_ResponsesForIdleOrForeignIdsEndThePath) {
  for (const std::uint32_t id : {0U, 1U, 7U, 8U, 0x7ffffU}) {
    pair.disconnects_ = 0;
    pair.closed_ = pair.closing_ = false;
    pair.connects_ = 0;
    ASSERT_TRUE(pair.open());
    server->on_request = [&](RawEnd& end, std::uint32_t immediate) {
      const std::uint32_t wrong = id == RawServer::chunk_of(immediate) ? id + 1 : id;
      end.immediate(wire::encode_response(wrong, 0));
    };
    Io io(Direction::write, 0, 100);
    expect_path_lost(io);
    EXPECT_EQ(io.result, Errc::path_lost);
    ASSERT_TRUE(pair.close_and_wait());
  }
}

TEST_F(HostileServer, S16_TheSameResponseTwiceEndsThePath) {
  ASSERT_TRUE(pair.open());
  server->on_request = [&](RawEnd& end, std::uint32_t immediate) {
    end.immediate(wire::encode_response(RawServer::chunk_of(immediate), 0));
    end.immediate(wire::encode_response(RawServer::chunk_of(immediate), 0));
  };
  Io io(Direction::write, 0, 100);
  expect_path_lost(io);
  EXPECT_FALSE(io.result);
}

TEST_F(HostileServer, UnexpectedMessagesEndThePath) {
  const std::vector<std::function<void(RawEnd&, std::uint32_t)>> faults = {
      [](RawEnd& end, std::uint32_t) { end.send({}); },
      [](RawEnd& end, std::uint32_t) { end.immediate(0); },  // a request to a client
      [](RawEnd& end, std::uint32_t imm) {
        end.immediate(wire::encode_response(RawServer::chunk_of(imm), 0, true));
      },
      [](RawEnd& end, std::uint32_t imm) {
        end.post({.op = fabric::Work::Op::send_imm,
                  .immediate = wire::encode_response(RawServer::chunk_of(imm), 0)});
      },
  };
  for (const auto& fault : faults) {
    pair.disconnects_ = pair.connects_ = 0;
    pair.closed_ = pair.closing_ = false;
    ASSERT_TRUE(pair.open());
    server->on_request = fault;
    Io io(Direction::write, 0, 100);
    expect_path_lost(io);
    ASSERT_TRUE(pair.close_and_wait());
  }
}

TEST_F(HostileServer, K20_AWriteToTheDataAfterTheAnswerFaults) {
  ASSERT_TRUE(pair.open());
  Io io(Direction::read, 0, 1000);
  const std::vector<std::byte> good(1000, std::byte{1}), late(1000, std::byte{2});
  server->on_request = [&](RawEnd& end, std::uint32_t immediate) {
    const auto parsed = server->parse(immediate);
    EXPECT_TRUE(parsed.has_target);
    EXPECT_FALSE(parsed.need_invalidate);
    const fabric::Work write{.op = fabric::Work::Op::write,
                             .remote = {parsed.target.address, parsed.target.key, 0}};
    end.post(write, good);
    end.immediate(wire::encode_response(RawServer::chunk_of(immediate), 0));
    end.post(write, late);
  };
  pair.submit(io);
  ASSERT_TRUE(pair.world().run_until([&] { return pair.disconnects_ == 1; }, 5s));
  EXPECT_EQ(io.completions, 1);
  EXPECT_FALSE(io.result);
  EXPECT_EQ(io.bytes()[999], std::byte{1});
  EXPECT_FALSE(io.changed_after_completion());
}

TEST_F(HostileServer, AWriteBeyondTheDataFaultsAndTouchesNothing) {
  ASSERT_TRUE(pair.open());
  Io io(Direction::read, 0, 1000);
  server->on_request = [&](RawEnd& end, std::uint32_t immediate) {
    const auto parsed = server->parse(immediate);
    end.post(
        {.op = fabric::Work::Op::write, .remote = {parsed.target.address, parsed.target.key, 0}},
        std::vector<std::byte>(1001));
  };
  pair.submit(io);
  ASSERT_TRUE(pair.world().run_until([&] { return io.completions == 1; }, 5s));
  EXPECT_EQ(io.result, Errc::path_lost);
  EXPECT_TRUE(io.guards_intact());
}

TEST_F(HostileServer, R14_AnEarlyAnswerDoesNotFreeBytesStillBeingSent) {
  ASSERT_TRUE(pair.open());
  // Completions stand still: nothing that was posted counts as sent.
  pair.link().stall_completions(50ms);
  server->on_request = [&](RawEnd& end, std::uint32_t immediate) {
    end.immediate(wire::encode_response(RawServer::chunk_of(immediate), 0));
  };
  Io io(Direction::write, 0, 4096);
  const auto since = pair.world().elapsed();
  pair.submit(io);
  ASSERT_TRUE(pair.world().run_until([&] { return io.completions == 1; }, 5s));
  EXPECT_FALSE(io.result);
  EXPECT_GE(pair.world().elapsed() - since, 45ms);
}

TEST_F(HostileServer, AnEarlyAnswerInsideTheMessageOfAnIdleHeartbeatIsIgnoredOnTheWrongConnection) {
  ASSERT_TRUE(pair.open());
  server->ends[1]->immediate(wire::kHeartbeatImmediate);
  server->ends[1]->immediate(wire::kHeartbeatAckImmediate);
  server->ends[0]->immediate(0xe0000000);  // a type nobody knows
  pair.world().run_for(50ms);
  EXPECT_TRUE(pair.connected());
  EXPECT_TRUE(server->ends[1]->immediates.empty());
}

TEST_F(HostileServer, HeartbeatsAreAnsweredAtOnce) {
  ASSERT_TRUE(pair.open());
  server->ends[0]->immediate(wire::kHeartbeatImmediate);
  pair.world().run_for(5ms);
  EXPECT_EQ(server->ends[0]->immediates, std::vector{wire::kHeartbeatAckImmediate});
}

// ---- Key refresh: servers with always_invalidate=Y ----

class KeyRefresh : public HostileServer {
 protected:
  KeyRefresh() {
    server->answer.flags = wire::kConnectNewRkey;
    // One key per chunk, as such servers have.
    chunk_keys.assign(RawServer::kDepth, server->regions[0].key);
  }
  std::vector<std::uint32_t> chunk_keys;
};

TEST_F(KeyRefresh, KeysInAnswersAreStoredAndUsed) {
  std::vector<std::byte> message;
  int answered = 0;
  server->on_request = [&](RawEnd& end, std::uint32_t immediate) {
    const std::uint32_t chunk = RawServer::chunk_of(immediate);
    const auto key =
        wire::encode_rkey_response(static_cast<std::uint16_t>(chunk), chunk_keys[chunk]);
    ++answered;
    end.post({.op = fabric::Work::Op::send_imm, .immediate = wire::encode_response(chunk, 0)},
             wire::bytes_of(key));
  };
  ASSERT_TRUE(pair.open());
  for (int i = 0; i < 50; ++i) {
    Io io(Direction::write, 0, 100);
    EXPECT_FALSE(pair.run(io));
  }
  EXPECT_EQ(answered, 50);
  // A dead key shows at the next use of that chunk.
  for (auto& key : chunk_keys) key ^= 0x55;
  std::vector<std::error_code> results;
  for (int i = 0; i < 2; ++i) {
    Io io(Direction::write, 0, 100);
    results.push_back(pair.run(io));
  }
  EXPECT_FALSE(results[0]);
  EXPECT_EQ(results[1], Errc::path_lost);
}

TEST_F(KeyRefresh, AnswersWithoutKeyOrWithAForeignOneEndThePath) {
  for (int fault = 0; fault < 3; ++fault) {
    pair.disconnects_ = pair.connects_ = 0;
    pair.closed_ = pair.closing_ = false;
    server->on_request = [&, fault](RawEnd& end, std::uint32_t immediate) {
      const std::uint32_t chunk = RawServer::chunk_of(immediate);
      auto key = wire::encode_rkey_response(static_cast<std::uint16_t>(chunk), 1);
      if (fault == 0) return end.immediate(wire::encode_response(chunk, 0));
      if (fault == 1) key.chunk = static_cast<std::uint16_t>(chunk ^ 1);
      if (fault == 2) key.type = 3;
      end.post({.op = fabric::Work::Op::send_imm, .immediate = wire::encode_response(chunk, 0)},
               wire::bytes_of(key));
    };
    ASSERT_TRUE(pair.open());
    Io io(Direction::write, 0, 100);
    expect_path_lost(io);
    ASSERT_TRUE(pair.close_and_wait());
  }
}

class KeyRefreshInTwoMessages : public ::testing::Test {};

TEST_F(KeyRefreshInTwoMessages, WorksWhereTheFabricHasNoSendWithImmediate) {
  PairOptions options;
  options.client_fabric.send_imm = options.server_fabric.send_imm = false;
  Pair pair(options);
  ASSERT_TRUE(pair.stop_server_and_wait());
  {
    RawServer server(pair);
    server.answer.flags = wire::kConnectNewRkey;
    bool split = false;
    server.on_request = [&](RawEnd& end, std::uint32_t immediate) {
      const std::uint32_t chunk = RawServer::chunk_of(immediate);
      end.send(wire::bytes_of(
          wire::encode_rkey_response(static_cast<std::uint16_t>(chunk), server.regions[0].key)));
      if (split) end.immediate(wire::kHeartbeatImmediate);  // nothing may come between the two
      end.immediate(wire::encode_response(chunk, 0));
    };
    ASSERT_TRUE(pair.open());
    for (int i = 0; i < 50; ++i) {
      Io io(i % 2 == 0 ? Direction::write : Direction::read, 0, 0);
      EXPECT_FALSE(pair.run(io));
    }
    split = true;
    Io io(Direction::write, 0, 0);
    EXPECT_EQ(pair.run(io), Errc::path_lost);
    ASSERT_TRUE(pair.close_and_wait());
  }
}

}  // namespace
}  // namespace rnbd::rtrs::testing
