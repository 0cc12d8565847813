// Our server with a client that behaves as the Linux kernel's: the cases of docs/interop.md.

#include <gtest/gtest.h>

#include "rnbd/testing/kernel_client.h"

namespace rnbd::testing {
namespace {

using block::Op;
using wire::AccessMode;

std::vector<std::byte> pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  SeededRandom random(seed);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  return bytes;
}

class KernelClientCases : public ::testing::Test {
 protected:
  KernelClientCases() { set_log_options({.program = "rnbd", .level = LogLevel::off}); }
  ~KernelClientCases() override {
    stop();
    set_log_options({});
  }
  void start(const rtrs::server::ServerOptions& options = small_server(),
             const DiskOptions& disk_options = small_disk()) {
    stop();
    Site::Options site_options;
    site_options.server = options;
    site = std::make_unique<Site>(site_options);
    disk = &site->add_disk("vol", disk_options);
    disk->recording = true;
    fabric = &site->world.add_host("kernel", 2).add_fabric();
  }
  void stop() {
    clients.clear();
    if (!site) return;
    EXPECT_TRUE(site->world.run_until([&] { return site->opener.open_devices == 0; }, 60s));
    EXPECT_EQ(disk->overlaps, 0);
    EXPECT_EQ(disk->refused, 0);
    site.reset();
  }
  KernelClient& make_client(const KernelClient::Options& options = {}) {
    return *clients.emplace_back(
        std::make_unique<KernelClient>(site->world, *fabric, site->server.address(), options));
  }
  KernelClient& connect(const std::string& name = "blya",
                        const KernelClient::Options& options = {}) {
    KernelClient& client = make_client(options);
    EXPECT_TRUE(client.establish(name));
    EXPECT_TRUE(client.greet());
    return client;
  }
  // As lists of what the disk saw: "write+fua 0 512".
  std::string seen() {
    std::string text;
    for (const auto& request : disk->seen) {
      text += (text.empty() ? "" : ", ") + std::string(block::op_name(request.op));
      if ((request.flags & block::kFua) != 0) text += "+fua";
      if ((request.flags & block::kNoUnmap) != 0) text += "+nounmap";
    }
    disk->seen.clear();
    return text;
  }
  std::span<const std::byte> on_disk(std::uint64_t at, std::size_t size) {
    return std::span(disk->bytes()).subspan(at, size);
  }

  std::unique_ptr<Site> site;
  Disk* disk = nullptr;
  SimFabric* fabric = nullptr;
  std::vector<std::unique_ptr<KernelClient>> clients;
};

// ---- Mapping ----

TEST_F(KernelClientCases, S01_S20_MapsScansWritesReadsAndUnmaps) {
  start();
  KernelClient& client = connect();
  const auto answer = client.send_open("/vol");
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer.invalidated);
  const auto response = wire::parse_open_response(answer.data).value();
  EXPECT_EQ(response.nsectors, disk->limits().size / 512);
  EXPECT_EQ(response.logical_block_size, 512);
  EXPECT_EQ(response.cache_policy, wire::kCacheFua | wire::kCacheWriteBack);
  EXPECT_NE(response.max_discard_sectors, 0U);
  const auto id = response.device_id;
  for (const std::uint64_t sector : {0U, 8U, 2040U}) {  // for partition tables
    const auto scanned = client.read_blocks(id, sector, 4096);
    EXPECT_TRUE(scanned);
    EXPECT_TRUE(std::ranges::equal(scanned.data, on_disk(sector * 512, 4096)));
  }
  const auto data = pattern(12288, 1);  // the most there is
  EXPECT_EQ(client.write_blocks(id, 16, data), 0);
  EXPECT_TRUE(std::ranges::equal(client.read_blocks(id, 16, 12288, 2, 7).data, data));
  EXPECT_EQ(client.flush(id), 0);
  EXPECT_EQ(client.close(id), 0);
  EXPECT_TRUE(site->list().empty());
}

TEST_F(KernelClientCases, S02_S41_AReadOnlyMappingReadsAndCannotChangeAnything) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol", AccessMode::ro);
  ASSERT_GE(id, 0);
  EXPECT_EQ(site->list().at(0).mode, AccessMode::ro);
  EXPECT_TRUE(client.read_blocks(id, 0, 4096));
  disk->seen.clear();
  EXPECT_EQ(client.write_blocks(id, 0, pattern(512, 1)), EPERM);
  EXPECT_EQ(client.change(id, 0x103, 0, 512), EPERM);
  EXPECT_EQ(client.change(id, 0x105, 0, 512), EPERM);
  EXPECT_EQ(seen(), "");
}

TEST_F(KernelClientCases, S03_ErrorsOfOpenPassThroughAndAreInvalidatedLikeSuccess) {
  start();
  KernelClient& client = connect();
  const auto missing = client.send_open("nothing");
  EXPECT_EQ(missing.error, ENOENT);
  EXPECT_TRUE(missing.invalidated);
  for (const int error : {ENOTBLK, EINVAL, EACCES}) {
    site->opener.fail_opens(error);
    EXPECT_EQ(client.open("vol"), -error);
  }
  site->opener.fail_opens(0);
  KernelClient& other = connect("other", {.seed = 2});
  ASSERT_GE(client.open("vol"), 0);
  EXPECT_EQ(other.open("vol"), -EPERM);
}

TEST_F(KernelClientCases, S22_EveryCombinationOfModesFromTwoSessions) {
  const AccessMode modes[] = {AccessMode::ro, AccessMode::rw, AccessMode::migration};
  const bool granted[3][3] = {{true, true, true}, {true, false, true}, {true, false, true}};
  for (std::size_t held = 0; held < 3; ++held) {
    for (std::size_t wanted = 0; wanted < 3; ++wanted) {
      start();
      KernelClient& one = connect("one");
      KernelClient& two = connect("two", {.seed = 2});
      ASSERT_GE(one.open("vol", modes[held]), 0);
      EXPECT_EQ(two.open("vol", modes[wanted]) >= 0, granted[held][wanted]) << held << wanted;
    }
  }
}

TEST_F(KernelClientCases, S23_AnotherSpellingIsAnsweredEexistAtOnce) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("/vol", AccessMode::ro);
  ASSERT_GE(id, 0);
  EXPECT_EQ(client.open("vol", AccessMode::ro), -EEXIST);
  EXPECT_EQ(client.open("/vol", AccessMode::rw), id);
}

TEST_F(KernelClientCases, S42_GarbageBehindNamesAndInPaddingIsIgnored) {
  start();
  KernelClient& client = connect();  // whose messages are full of it
  const auto id = client.open("vol");
  ASSERT_GE(id, 0);
  auto message = KernelClient::io(id, 0x101, 0, 512);
  message.padding.fill(0xff);
  message.header.padding = 0xffff;
  const auto data = pattern(512, 5);
  EXPECT_EQ(client.wait(client.write(1, 1, wire::bytes_of(message), data)).error, 0);
  EXPECT_TRUE(std::ranges::equal(on_disk(0, 512), data));
  // The name is what stands before the NUL, and may end with the field.
  EXPECT_EQ(client.open(std::string(254, 'n')), -ENOENT);
}

// ---- Sizes ----

TEST_F(KernelClientCases, S04_S05_QueueDepthsFrom2To4096AreServedInFull) {
  for (const std::uint32_t depth : {2U, 32U, 300U, 512U, 4096U}) {
    auto options = small_server();
    options.queue_depth = depth;
    start(options, small_disk(4 << 20));
    KernelClient& client = connect();
    EXPECT_EQ(client.raw().limits.queue_depth, depth);
    // One descriptor for all chunks: what the kernel's client asks of them holds for any depth.
    EXPECT_EQ(client.raw().ends[0]->sends[0].size(), 24U);
    ASSERT_EQ(client.raw().chunks.size(), depth);
    const auto id = client.open("vol");
    std::vector<std::unique_ptr<KernelClient::Pending>> all;
    const auto data = pattern(512, depth);
    for (std::uint32_t chunk = 0; chunk < depth; ++chunk) {
      const auto message = KernelClient::io(id, 0x101, chunk, 512);
      all.push_back(client.write(static_cast<std::uint16_t>(1 + chunk % 2), chunk,
                                 wire::bytes_of(message), data));
    }
    for (auto& pending : all) EXPECT_EQ(client.wait(std::move(pending)).error, 0);
    EXPECT_TRUE(std::ranges::equal(on_disk((depth - 1) * 512, 512), data));
  }
}

TEST_F(KernelClientCases, S07_S11_EveryBlockSizeOverChunksFrom8KiBToAMebibyte) {
  for (const std::uint32_t chunk_size : {8192U, 65536U, 131072U, 1048576U}) {
    auto options = small_server();
    options.max_chunk_size = chunk_size;
    options.queue_depth = 16;
    start(options, small_disk(2 << 20));
    KernelClient& client = connect();
    EXPECT_EQ(client.raw().limits.max_io_size, chunk_size - 4096);
    const auto id = client.open("vol");
    for (std::uint32_t size = 512; size <= chunk_size - 4096; size *= 2) {
      const auto data = pattern(size, size);
      EXPECT_EQ(client.write_blocks(id, 8, data), 0);
      EXPECT_TRUE(std::ranges::equal(client.read_blocks(id, 8, size).data, data)) << size;
    }
    EXPECT_EQ(client.write_blocks(id, 0, pattern(chunk_size - 4096, 3)), 0);
  }
}

TEST_F(KernelClientCases, S55_AQueueDepthOfOneIsRefusedByOurOwnSettings) {
  start();
  auto options = small_server();
  options.queue_depth = 1;
  fabric::Fabric* const fabrics[] = {fabric};
  SeededRandom random(1);
  const auto server =
      rtrs::server::Server::create(fabrics, random, *site->server.life().handler, options);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error(), from_errno(EINVAL));
}

// ---- Operations ----

TEST_F(KernelClientCases, S12_S13_S53_StableStorageByFlushByFuaAndByTheFlagsOfNewerKernels) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  const auto data = pattern(512, 1);
  EXPECT_EQ(client.flush(id), 0);
  EXPECT_EQ(seen(), "flush");
  EXPECT_EQ(client.write_blocks(id, 0, data, 0x301), 0);
  EXPECT_EQ(seen(), "write+fua");
  EXPECT_EQ(client.write_blocks(id, 0, data, 0x701), 0);  // PREFLUSH
  EXPECT_EQ(seen(), "flush, write+fua");
  EXPECT_EQ(client.change(id, 0x905, 0, 4096), 0);  // NOUNMAP
  EXPECT_EQ(seen(), "write_zeroes+nounmap");
  EXPECT_EQ(client.change(id, 0x105, 0, 4096), 0);
  EXPECT_EQ(seen(), "write_zeroes");
}

TEST_F(KernelClientCases, S14_WithoutACacheNoneIsAnnouncedAndAFlushIsHarmless) {
  auto options = small_disk();
  options.limits.volatile_cache = options.limits.fua = false;
  start(small_server(), options);
  KernelClient& client = connect();
  const auto answer = client.send_open("vol");
  EXPECT_EQ(wire::parse_open_response(answer.data)->cache_policy, 0);
  EXPECT_EQ(client.flush(wire::parse_open_response(answer.data)->device_id), 0);
}

TEST_F(KernelClientCases, S15_S16_DiscardAndZeroesComeWithoutDataAndBeyondTheIoSize) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  std::ranges::fill(disk->bytes(), std::byte{0xaa});
  EXPECT_EQ(client.change(id, 0x103, 0, 512 * 1024), 0);
  EXPECT_EQ(client.change(id, 0x105, 1024, 512 * 1024), 0);
  EXPECT_TRUE(std::ranges::all_of(disk->bytes(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(KernelClientCases, S17_WhatIsNotAnnouncedIsNotSupported) {
  auto options = small_disk();
  options.limits.max_discard = options.limits.max_write_zeroes = 0;
  start(small_server(), options);
  KernelClient& client = connect();
  const auto response = wire::parse_open_response(client.send_open("vol").data).value();
  EXPECT_EQ(response.max_discard_sectors, 0U);
  EXPECT_EQ(response.max_write_zeroes_sectors, 0U);
  for (const std::uint32_t rw : {0x103U, 0x104U, 0x105U})
    EXPECT_EQ(client.change(response.device_id, rw, 0, 512), EOPNOTSUPP);
}

TEST_F(KernelClientCases, S18_EveryErrnoWithABlockStatusArrivesAsItself) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  for (const int error : {EIO, EAGAIN, EINVAL, ENOSPC, ETIMEDOUT, EREMOTEIO, ENODEV, ENODATA,
                          EILSEQ, ENOMEM, EBUSY, EOPNOTSUPP, ENOLINK, EBADE}) {
    disk->fail_next(1, error);
    const auto answer = client.read_blocks(id, 0, 4096);
    EXPECT_EQ(answer.error, error);
    EXPECT_TRUE(answer.invalidated);
  }
}

TEST_F(KernelClientCases, S19_BlocksOf4096Bytes) {
  auto options = small_disk();
  options.limits.logical_block_size = options.limits.physical_block_size = 4096;
  start(small_server(), options);
  KernelClient& client = connect();
  const auto response = wire::parse_open_response(client.send_open("vol").data).value();
  EXPECT_EQ(response.logical_block_size, 4096);
  const auto data = pattern(8192, 2);
  EXPECT_EQ(client.write_blocks(response.device_id, 8, data), 0);
  EXPECT_TRUE(std::ranges::equal(on_disk(4096, 8192), data));
  EXPECT_NE(client.write_blocks(response.device_id, 1, pattern(512, 1)), 0);
}

TEST_F(KernelClientCases, C27_C36_S43_S44_S45_S51_S54_OddMessagesAreAnsweredAndThePathStays) {
  start();
  KernelClient& client = connect();
  const auto id = client.open("vol");
  disk->seen.clear();
  const auto data = pattern(512, 9);
  const auto send = [&](const wire::layout::Io& message, std::size_t size,
                        std::span<const std::byte> with) {
    return client.wait(client.write(1, 1, wire::bytes_of(message).first(size), with)).error;
  };
  EXPECT_EQ(send(KernelClient::io(id, 0x101, 0, 512), 24, data), 0);  // version 1
  EXPECT_EQ(seen(), "write");
  EXPECT_EQ(send(KernelClient::io(id, 0x007, 0, 512), 32, data), EOPNOTSUPP);
  EXPECT_EQ(
      client.wait(client.read(1, 1, wire::bytes_of(KernelClient::io(id, 7, 0, 512)), 512)).error,
      EOPNOTSUPP);
  auto unknown = KernelClient::io(id, 0x101, 0, 512);
  for (const std::uint16_t type : std::initializer_list<std::uint16_t>{1, 3, 6, 9, 0xffff}) {
    unknown.header.type = type;
    EXPECT_EQ(send(unknown, 32, data), EINVAL);
  }
  for (const std::size_t size : {0U, 3U, 4U, 23U})
    EXPECT_EQ(send(KernelClient::io(id, 0x101, 0, 512), size, data), EINVAL) << size;
  // The write-same of old kernels: one block of data for a range.
  EXPECT_EQ(send(KernelClient::io(id, 0x105, 0, 65536), 32, data), EOPNOTSUPP);
  EXPECT_EQ(seen(), "");
  for (const std::uint32_t rw : {0x301U, 0x401U, 0x701U}) {  // nothing to write, all to flush
    EXPECT_EQ(send(KernelClient::io(id, rw, 0, 0), 32, {}), 0);
    EXPECT_EQ(seen(), "flush");
  }
  EXPECT_EQ(send(KernelClient::io(id, 0x101, 0, 0), 32, {}), 0);
  EXPECT_EQ(seen(), "");
  EXPECT_EQ(client.write_blocks(id, 0, data), 0);
}

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
