// Connections through a real server and socket: commands, errors, depth, memory bounds, ends of
// every kind.
#include "frontend/nbd/connection.h"

#include <map>

#include "frontend/nbd/testing/nbd_bench.h"

namespace rnbd::nbd {
namespace {

using testing::Answer;
using testing::Bench;
using testing::Client;
using testing::pattern;
using wire::NbdCommand;

constexpr std::uint32_t kPerm = 1, kIo = 5, kInval = 22, kNospc = 28, kOverflow = 75;

class ConnectionTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    bench_.options.connections_max = 4096;
    bench_.start();
    ASSERT_TRUE(bench_.add("disk", device_));
  }
  void TearDown() override {
    device_.let_go();
    bench_.stop();
    EXPECT_EQ(device_.open_queues(), 0U);
  }
  Client attach() {
    Client client(bench_.options.socket_path);
    EXPECT_TRUE(client.go("disk", GetParam()));
    return client;
  }
  bool idle() {
    return Bench::wait_for([&] { return bench_.connections("disk") == 0; });
  }
  block::FakeDevice device_;
  Bench bench_;
};

TEST_P(ConnectionTest, ReadsBackWhatItWrote) {
  Client client = attach();
  for (const std::uint32_t size : {512U, 4096U, 65536U, 1U << 20}) {
    const auto data = pattern(size, size);
    EXPECT_EQ(client.ask(NbdCommand::write, 1536, size, 0, data), 0U);
    EXPECT_EQ(client.ask(NbdCommand::read, 1536, size), 0U);
    EXPECT_EQ(client.last.structured, GetParam());
    EXPECT_EQ(client.last.data, data);
  }
}

TEST_P(ConnectionTest, PassesFlushTrimZeroesAndFuaToTheDevice) {
  Client client = attach();
  const auto data = pattern(4096, 1);
  EXPECT_EQ(client.ask(NbdCommand::write, 0, 4096, wire::kNbdCommandFua, data), 0U);
  EXPECT_EQ(device_.fuas, 1U);
  EXPECT_EQ(client.ask(NbdCommand::flush, 0, 0), 0U);
  EXPECT_EQ(device_.flushes, 1U);
  EXPECT_EQ(client.ask(NbdCommand::trim, 0, 1024), 0U);
  EXPECT_EQ(device_.discards, 1U);
  EXPECT_EQ(client.ask(NbdCommand::write_zeroes, 1024, 1024, wire::kNbdCommandNoHole), 0U);
  EXPECT_EQ(device_.no_unmaps, 1U);
  EXPECT_EQ(client.ask(NbdCommand::write_zeroes, 2048, 1024, wire::kNbdCommandFua), 0U);
  EXPECT_EQ(device_.fuas, 2U);
  EXPECT_EQ(client.ask(NbdCommand::read, 1024, 2048), 0U);
  EXPECT_EQ(client.last.data, std::vector<std::byte>(2048));
}

TEST_P(ConnectionTest, AnswersWhatIsWrongAndGoesOn) {
  Client client = attach();
  const std::uint64_t end = device_.bytes.size();
  EXPECT_EQ(client.ask(NbdCommand::read, 1, 512), kInval);
  EXPECT_EQ(client.ask(NbdCommand::read, 0, 100), kInval);
  EXPECT_EQ(client.ask(NbdCommand::read, end, 512), kInval);
  EXPECT_EQ(client.ask(NbdCommand::read, ~std::uint64_t{511}, 1024), kInval);
  EXPECT_EQ(client.ask(NbdCommand::write, end, 512, 0, pattern(512, 0)), kNospc);
  EXPECT_EQ(client.ask(NbdCommand::write, 3, 512, 0, pattern(512, 0)), kInval);
  EXPECT_EQ(client.ask(NbdCommand::read, 0, (32U << 20) + 512), kOverflow);
  EXPECT_EQ(client.ask(NbdCommand::write, 0, (32U << 20) + 512, 0, pattern((32U << 20) + 512, 0)),
            kOverflow);
  EXPECT_EQ(client.ask(static_cast<NbdCommand>(99), 0, 0), kInval);
  EXPECT_EQ(client.ask(NbdCommand::block_status, 0, 512), kInval);
  EXPECT_EQ(client.ask(NbdCommand::read, 0, 512, 0x8000), kInval);
  EXPECT_EQ(client.ask(NbdCommand::write_zeroes, 0, 512, wire::kNbdCommandFastZero), kInval);
  EXPECT_EQ(client.ask(NbdCommand::read, 0, 512), 0U);
  EXPECT_EQ(device_.writes, 0U);
}

TEST_P(ConnectionTest, AnswersEmptyRequests) {
  Client client = attach();
  EXPECT_EQ(client.ask(NbdCommand::read, 0, 0), 0U);
  EXPECT_EQ(client.ask(NbdCommand::write, 0, 0), 0U);
  EXPECT_EQ(client.ask(NbdCommand::trim, 0, 0), 0U);
}

TEST_P(ConnectionTest, MapsErrorsOfTheDevice) {
  Client client = attach();
  const std::pair<int, std::uint32_t> cases[] = {
      {EIO, kIo}, {ENOSPC, kNospc}, {EROFS, kPerm}, {ENODEV, kIo}};
  for (const auto& [error, expected] : cases) {
    device_.fail_with = error;
    EXPECT_EQ(client.ask(NbdCommand::read, 0, 4096), expected);
    EXPECT_EQ(client.ask(NbdCommand::write, 0, 4096, 0, pattern(4096, 0)), expected);
    EXPECT_EQ(client.ask(NbdCommand::flush, 0, 0), expected);
  }
}

TEST_P(ConnectionTest, CompletesEveryOneOfAThousandPipelinedRequestsOnce) {
  Client client = attach();
  std::string text;
  std::map<std::uint64_t, std::uint32_t> reads;
  constexpr std::uint64_t kRequests = 1000;
  std::uint64_t offset = 0;
  std::vector<std::byte> expected(device_.bytes.size());
  for (std::uint64_t cookie = 0; cookie < kRequests; ++cookie) {
    const auto size = static_cast<std::uint32_t>(512 * (1 + cookie % 16));
    const auto data = pattern(size, static_cast<unsigned>(cookie));
    text += Client::request(NbdCommand::write, cookie, offset, size);
    text.append(reinterpret_cast<const char*>(data.data()), data.size());
    std::memcpy(expected.data() + offset, data.data(), size);
    offset += size;
    const std::uint64_t cookie_of_read = cookie + kRequests;
    reads[cookie_of_read] = size;
    text += Client::request(NbdCommand::read, cookie_of_read, 4 << 20, size);
  }
  ASSERT_LE(offset, 6U << 20);
  std::thread sender([&] { EXPECT_TRUE(client.send(text)); });
  std::map<std::uint64_t, unsigned> answered;
  for (std::uint64_t i = 0; i < 2 * kRequests; ++i) {
    Answer answer;
    const bool got = client.answer(
        answer, [&](std::uint64_t cookie) { return cookie < kRequests ? 0 : reads[cookie]; });
    EXPECT_TRUE(got);
    if (!got) break;
    EXPECT_EQ(answer.error, 0U);
    ++answered[answer.cookie];
    EXPECT_EQ(answer.data.size(), answer.cookie < kRequests ? 0 : reads[answer.cookie]);
  }
  sender.join();
  EXPECT_EQ(answered.size(), 2 * kRequests);
  for (const auto& [cookie, times] : answered) EXPECT_EQ(times, 1U);
  EXPECT_EQ(std::memcmp(expected.data(), device_.bytes.data(), 4 << 20), 0);
}

TEST_P(ConnectionTest, ServesRequestsOfTheLargestSizeOneBehindTheOther) {
  constexpr std::uint32_t kSize =
      8U << 20;  // the whole device; two of five fit the payload memory at a time
  Client client = attach();
  const auto data = pattern(kSize, 5);
  std::string text;
  for (std::uint64_t i = 0; i < 5; ++i) text += Client::request(NbdCommand::read, 10 + i, 0, kSize);
  EXPECT_EQ(client.ask(NbdCommand::write, 0, kSize, 0, data), 0U);
  ASSERT_TRUE(client.send(text));
  for (int i = 0; i < 5; ++i) {
    Answer answer;
    ASSERT_TRUE(client.answer(answer, [](std::uint64_t) { return kSize; }));
    EXPECT_EQ(answer.error, 0U);
    EXPECT_EQ(answer.data, data);
  }
}

TEST_P(ConnectionTest, TakesNoMoreThanItsSlotsFromAClientThatDoesNotRead) {
  Client client = attach();
  std::string text;
  for (std::uint64_t i = 0; i < 500; ++i) text += Client::request(NbdCommand::read, i, 0, 1 << 20);
  ASSERT_TRUE(client.send(text));
  // Every reply is in the end taken and intact, though nothing was read while they piled up.
  ASSERT_TRUE(Bench::wait_for([&] { return device_.reads >= 4; }));
  for (int i = 0; i < 500; ++i) {
    Answer answer;
    ASSERT_TRUE(client.answer(answer, [](std::uint64_t) { return 1U << 20; }));
    ASSERT_EQ(answer.data.size(), 1U << 20);
  }
}

TEST_P(ConnectionTest, DisconnectSendsTheRepliesStillOutstanding) {
  Client client = attach();
  device_.hold();
  ASSERT_TRUE(client.send(Client::request(NbdCommand::read, 5, 0, 4096) +
                          Client::request(NbdCommand::disconnect, 0, 0, 0)));
  ASSERT_TRUE(Bench::wait_for([&] { return device_.waiting == 1; }));
  device_.let_go();
  Answer answer;
  ASSERT_TRUE(client.answer(answer, [](std::uint64_t) { return 4096U; }));
  EXPECT_EQ(answer.cookie, 5U);
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(idle());
}

TEST_P(ConnectionTest, ARequestWithAWrongMagicEndsTheConnection) {
  Client client = attach();
  ASSERT_TRUE(client.send(std::string(28, 'x')));
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(idle());
}

TEST_P(ConnectionTest, AClientThatVanishesIsKeptUntilTheDeviceAnswered) {
  device_.hold();
  {
    Client client = attach();
    ASSERT_TRUE(client.send(Client::request(NbdCommand::read, 1, 0, 4096) +
                            Client::request(NbdCommand::flush, 2, 0, 0)));
    ASSERT_TRUE(Bench::wait_for([&] { return device_.waiting == 2; }));
  }
  EXPECT_EQ(bench_.connections("disk"), 1U);
  EXPECT_EQ(device_.open_queues(), 1U);
  device_.let_go();
  EXPECT_TRUE(idle());
  EXPECT_EQ(device_.open_queues(), 0U);
}

TEST_P(ConnectionTest, SurvivesAClientThatHangsUpAfterAnyByte) {
  const auto data = pattern(1024, 9);
  std::string text = Client::opening("disk", GetParam());
  const std::size_t handshake = text.size();
  text += Client::request(NbdCommand::read, 1, 0, 2048);
  text += Client::request(NbdCommand::write, 2, 4096, 1024) +
          std::string(reinterpret_cast<const char*>(data.data()), 1024);
  text += Client::request(NbdCommand::flush, 3, 0, 0);
  for (std::size_t cut = 0; cut <= text.size(); cut += cut < handshake + 100 ? 1 : 97) {
    Client client(bench_.options.socket_path);
    ASSERT_TRUE(client.connected());
    client.send(text.data(), cut);
    client.hang_up();
  }
  EXPECT_TRUE(idle());
  Client client = attach();
  EXPECT_EQ(client.ask(NbdCommand::read, 0, 512), 0U);
}

TEST_P(ConnectionTest, SplitsWhatIsLargerThanTheDeviceTakes) {
  block::FakeDevice small(1 << 20);
  small.limits_for_setup().max_transfer = 8192;
  small.limits_for_setup().max_discard = 65536;
  ASSERT_TRUE(bench_.add("small", small));
  {
    Client client(bench_.options.socket_path);
    ASSERT_TRUE(client.go("small", GetParam()));
    const auto data = pattern(1 << 20, 3);
    EXPECT_EQ(client.ask(NbdCommand::write, 0, 1 << 20, 0, data), 0U);
    EXPECT_EQ(small.writes, 128U);
    EXPECT_EQ(client.ask(NbdCommand::read, 0, 1 << 20), 0U);
    EXPECT_EQ(client.last.data, data);
    EXPECT_EQ(client.ask(NbdCommand::trim, 0, 1 << 20), 0U);
    EXPECT_EQ(small.discards, 16U);
  }
  EXPECT_FALSE(bench_.remove("small").get());
}

INSTANTIATE_TEST_SUITE_P(Replies, ConnectionTest, ::testing::Bool(),
                         [](const auto& p) { return p.param ? "Structured" : "Simple"; });

}  // namespace
}  // namespace rnbd::nbd
