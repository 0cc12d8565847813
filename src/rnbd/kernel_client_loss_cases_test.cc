// Our server with a client that behaves as the Linux kernel's: the cases of docs/interop.md about
// what runs beside each other, and what is lost.

#include <gtest/gtest.h>

#include "rnbd/testing/kernel_client_cases.h"

namespace rnbd::testing {
namespace {

// ---- Life and loss ----

TEST_F(KernelClientCases, S21_TwoDevicesShareASessionAndBothGoOn) {
  start();
  Disk& other = site->add_disk("two");
  KernelClient& client = connect();
  const auto one = client.open("vol"), two = client.open("two");
  EXPECT_NE(one, two);
  disk->hold(true);  // the first stands still
  auto stuck =
      client.write(1, 1, wire::bytes_of(KernelClient::io(one, 0x101, 0, 512)), pattern(512, 1));
  const auto data = pattern(4096, 2);
  for (std::uint64_t i = 0; i < 20; ++i)
    EXPECT_EQ(client.write_blocks(two, i * 8, data, 0x101, 1, 2), 0);
  EXPECT_FALSE(client.answered(*stuck));
  disk->hold(false);
  EXPECT_EQ(client.wait(std::move(stuck)).error, 0);
  EXPECT_TRUE(std::ranges::equal(std::span(other.bytes()).first(4096), data));
}

TEST_F(KernelClientCases, S24_EachPathHasChunksAndKeysOfItsOwn) {
  start();
  KernelClient& one = connect("blya");
  KernelClient& two = make_client({.seed = 2});
  two.raw().request.paths_uuid = one.raw().request.paths_uuid;
  two.raw().request.first_conn = false;
  EXPECT_FALSE(two.establish("blya")) << "over the same addresses";
  SimFabric& elsewhere = site->world.add_host("kernel2").add_fabric();
  auto& path = *clients.emplace_back(std::make_unique<KernelClient>(
      site->world, elsewhere, site->server.address(), KernelClient::Options{.seed = 3}));
  path.raw().request.paths_uuid = one.raw().request.paths_uuid;
  path.raw().request.first_conn = false;
  ASSERT_TRUE(path.establish("blya"));
  EXPECT_NE(path.raw().chunks[0].key, one.raw().chunks[0].key);
  const auto id = one.open("vol");
  EXPECT_EQ(path.open("vol"), id) << "it is the same session";
  const auto data = pattern(4096, 1);
  EXPECT_EQ(one.write_blocks(id, 0, data), 0);
  EXPECT_TRUE(std::ranges::equal(path.read_blocks(id, 0, 4096).data, data));
}

// The kernel's client sends what was under way on a lost path at once on another, under the same
// chunk number, while the server may still be busy with the first copy.
TEST_F(KernelClientCases, S25_AReplayOnAnotherPathComesAfterItsFirstCopyAndBeforeWhatFollows) {
  start();
  KernelClient& one = connect("blya");
  SimFabric& elsewhere = site->world.add_host("kernel2").add_fabric();
  auto& two = *clients.emplace_back(std::make_unique<KernelClient>(
      site->world, elsewhere, site->server.address(), KernelClient::Options{.seed = 3}));
  two.raw().request.paths_uuid = one.raw().request.paths_uuid;
  two.raw().request.first_conn = false;
  ASSERT_TRUE(two.establish("blya"));
  const auto id = one.open("vol");
  const auto first = pattern(4096, 1), second = pattern(4096, 2);
  const auto message = KernelClient::io(id, 0x101, 8, 4096);
  disk->hold(true);
  auto lost = one.write(1, 5, wire::bytes_of(message), first);
  site->world.run_for(1ms);
  for (auto& end : one.raw().ends) end->close();
  auto replay = two.write(1, 5, wire::bytes_of(message), first);
  site->world.run_for(10ms);
  disk->hold(false);
  EXPECT_EQ(two.wait(std::move(replay)).error, 0);
  EXPECT_EQ(two.write_blocks(id, 8, second, 0x101, 1, 5), 0);
  site->world.run_for(1s);
  EXPECT_TRUE(std::ranges::equal(on_disk(4096, 4096), second));
}

TEST_F(KernelClientCases, S26_S37_AfterALossTheNameAndTheWriterAreFreeAndItReconnects) {
  start();
  KernelClient& client = connect();
  ASSERT_GE(client.open("vol"), 0);
  client.disconnect();
  ASSERT_TRUE(site->world.run_until([&] { return site->opener.open_devices == 0; }, 10s));
  EXPECT_TRUE(site->list().empty());
  ASSERT_TRUE(client.reconnect("blya"));
  EXPECT_TRUE(client.greet());
  disk->resize(2 << 20);
  const auto answer = client.send_open("vol");
  ASSERT_TRUE(answer);
  EXPECT_EQ(wire::parse_open_response(answer.data)->nsectors, (2U << 20) / 512) << "S40";
}

TEST_F(KernelClientCases, S26_AServerThatWasRestartedKnowsNothingAndTakesEverything) {
  start();
  KernelClient& client = connect();
  ASSERT_GE(client.open("vol"), 0);
  site->server.stop();
  ASSERT_TRUE(site->world.run_until([&] { return site->server.stopped(); }, 30s));
  site->server.start();
  ASSERT_TRUE(client.reconnect("blya"));
  EXPECT_TRUE(client.greet());
  EXPECT_GE(client.open("vol"), 0);
}

TEST_F(KernelClientCases, S29_AThawedServerRunsNothingOfAPathThatWasGivenUp) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  site->server.host().freeze(60s);
  client.write(1, 1, wire::bytes_of(KernelClient::io(id, 0x101, 0, 512)), pattern(512, 1));
  site->world.run_for(31s);
  for (auto& end : client.raw().ends) end->close();  // heartbeats were missed
  site->world.run_for(40s);
  disk->seen.clear();
  ASSERT_TRUE(client.reconnect("blya"));
  EXPECT_TRUE(client.greet());
  const auto again = client.open("vol");
  ASSERT_GE(again, 0);
  const auto data = pattern(512, 2);
  EXPECT_EQ(client.write_blocks(again, 0, data), 0);
  EXPECT_TRUE(std::ranges::equal(on_disk(0, 512), data));
}

TEST_F(KernelClientCases, S30_AClientThatVanishedIsFoundAndItsWriterIsFree) {
  start();
  KernelClient& client = connect();
  ASSERT_GE(client.open("vol"), 0);
  KernelClient& other = connect("other", {.seed = 2});
  EXPECT_EQ(other.open("vol"), -EPERM);
  // It answers no heartbeat; the other one does so by asking again and again.
  const auto since = site->world.elapsed();
  while (other.open("vol") < 0 && site->world.elapsed() - since < 60s) site->world.run_for(1s);
  EXPECT_GE(site->world.elapsed() - since, 29s);
  EXPECT_LE(site->world.elapsed() - since, 37s);
}

TEST_F(KernelClientCases, S36_CloseIsAnsweredAfterTheIoUnderWay) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  disk->hold(true);
  auto slow =
      client.write(1, 1, wire::bytes_of(KernelClient::io(id, 0x101, 0, 512)), pattern(512, 1));
  site->world.run_for(1ms);
  auto close = wire::encode(wire::Close{static_cast<std::uint32_t>(id)});
  auto closing = client.write(0, 2, wire::bytes_of(close), {});
  site->world.run_for(1s);
  EXPECT_FALSE(client.answered(*closing));
  disk->hold(false);
  EXPECT_EQ(client.wait(std::move(closing)).error, 0);
  EXPECT_TRUE(client.answered(*slow));
  client.wait(std::move(slow));
}

TEST_F(KernelClientCases, S38_S39_AHundredAndTwentyNineConnectionsAreTakenAndServed) {
  auto options = small_server();
  options.max_connections_per_path = 256;
  start(options);
  KernelClient& client = connect("blya", {.connections = 129});
  const auto id = client.open("vol");
  for (const std::uint16_t cid : std::initializer_list<std::uint16_t>{0, 1, 64, 128}) {
    const auto data = pattern(512, cid);
    EXPECT_EQ(client.write_blocks(id, cid, data, 0x101, cid), 0);
    EXPECT_TRUE(std::ranges::equal(on_disk(cid * 512U, 512), data));
  }
}

TEST_F(KernelClientCases, S40_AVolumeMadeAnewIsSeenAtTheNextOpen) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  EXPECT_EQ(client.close(id), 0);
  disk->resize(4 << 20);
  const auto answer = client.send_open("vol");
  EXPECT_EQ(wire::parse_open_response(answer.data)->nsectors, (4U << 20) / 512);
}

}  // namespace
}  // namespace rnbd::testing
