// Our server with a client that behaves as the Linux kernel's: the cases of docs/interop.md about
// what is asked and answered.

#include <gtest/gtest.h>

#include "rnbd/testing/kernel_client_cases.h"

namespace rnbd::testing {
namespace {

using wire::AccessMode;

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

}  // namespace
}  // namespace rnbd::testing
