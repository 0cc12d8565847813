// Our client with a server that behaves as the Linux kernel's: the cases of docs/interop.md as
// devices see them. The transport's part is in src/rtrs.

#include <gtest/gtest.h>

#include "rnbd/testing/kernel_volumes.h"
#include "rnbd/testing/site.h"

namespace rnbd::testing {
namespace {

using block::Op;
using client::AccessMode;
using client::RemoteDevice;
using rtrs::testing::KernelServer;
using rtrs::testing::KernelServerOptions;

constexpr KernelServerOptions kDefaults{.queue_depth = 64, .chunk_size = 65536};
constexpr std::uint32_t kMaxIo = 65536 - 4096;

class KernelServerCases : public ::testing::Test {
 protected:
  KernelServerCases()
      : server_host(world.add_host("server", 2)), client_host(world.add_host("client", 2)) {
    set_log_options({.program = "rnbd", .level = LogLevel::off});
  }
  ~KernelServerCases() override {
    stop();
    set_log_options({});
  }
  void start(const KernelServerOptions& options = kDefaults, std::size_t paths = 1) {
    server = std::make_unique<KernelServer>(
        world, server_host, paths, options,
        [this](rtrs::testing::KernelRequest& request) { return volumes.handle(request); });
    server->on_session_gone = [this](const Uuid& session) { volumes.end_session(session); };
    std::vector<fabric::Address> addresses;
    for (std::size_t i = 0; i < paths; ++i)
      addresses.push_back(server_host.address_with_port(kPort, i));
    client = std::make_unique<ClientBox>(world, client_host, addresses, ClientBoxOptions{});
  }
  void stop() {
    doors.clear();
    client.reset();
    server.reset();
  }
  KernelVolume& volume(const std::string& name = "vol") { return volumes.volumes[name]; }
  Door& open(const std::string& name = "vol", AccessMode mode = AccessMode::rw) {
    device = &client->must_open(name, mode);
    volumes.ios.clear();
    return *doors.emplace_back(std::make_unique<Door>(world, *device, client->loop()));
  }
  std::error_code refusal(const std::string& name, AccessMode mode = AccessMode::rw) {
    const auto result = client->open({.path = name, .mode = mode});
    EXPECT_FALSE(result);
    return result ? std::error_code{} : result.error().error;
  }
  static void write_and_read_back(Door& door, std::uint64_t at, std::uint64_t length) {
    Io write(Op::write, at, length), read(Op::read, at, length);
    EXPECT_FALSE(door.run(write.fill(at + length)));
    EXPECT_FALSE(door.run(read));
    EXPECT_EQ(read.memory, write.memory);
  }
  // 40 writes under way when the second of two paths is lost; all have ended when it returns.
  std::vector<std::unique_ptr<Io>> write_while_a_path_is_cut(Door& door) {
    std::vector<std::unique_ptr<Io>> ios;
    for (std::uint64_t i = 0; i < 40; ++i) {
      ios.push_back(std::make_unique<Io>(Op::write, i * 4096, 4096));
      door.submit(ios.back()->fill(i));
    }
    world.run_for(20us);
    world.link(client_host, server_host, 1, 1).cut();
    EXPECT_TRUE(world.run_until(
        [&] {
          return std::all_of(ios.begin(), ios.end(), [](auto& io) { return io->completions == 1; });
        },
        60s));
    return ios;
  }
  void cached_volume() {
    volume().about.cache_policy = wire::kCacheFua | wire::kCacheWriteBack;
    volume().about.max_discard_sectors = 1024;
    volume().about.discard_granularity = 512;
    volume().about.max_write_zeroes_sectors = 1024;
  }

  World world{fabric::sim::Options{}};
  Host& server_host;
  Host& client_host;
  KernelVolumes volumes;
  std::unique_ptr<KernelServer> server;
  std::unique_ptr<ClientBox> client;
  RemoteDevice* device = nullptr;
  std::vector<std::unique_ptr<Door>> doors;
};

TEST_F(KernelServerCases, C18_TheGreetingSaysVersionTwoAndTakesAnOlderAnswer) {
  for (const std::uint8_t version : std::initializer_list<std::uint8_t>{1, 2}) {
    volumes.version = version;
    start();
    volume();
    volumes.requests.clear();
    write_and_read_back(open(), 0, 4096);
    const auto greeting =
        wire::load<wire::layout::SessionInfo>(volumes.requests.at(0).message).value();
    EXPECT_EQ(greeting.header.type, 0);
    EXPECT_EQ(greeting.version, 2);
    stop();
  }
}

TEST_F(KernelServerCases, C19_EveryModeOpensAndTheGeometryIsTheServers) {
  start();
  volume("vol") = KernelVolume(3 << 20);
  volume("vol").about.physical_block_size = 4096;
  cached_volume();
  for (const auto mode : {AccessMode::ro, AccessMode::rw, AccessMode::migration}) {
    RemoteDevice& opened = client->must_open("vol", mode);
    const auto limits = opened.limits();
    EXPECT_EQ(limits.size, 3U << 20);
    EXPECT_EQ(limits.logical_block_size, 512U);
    EXPECT_EQ(limits.physical_block_size, 4096U);
    EXPECT_EQ(limits.discard_granularity, 512U);
    EXPECT_TRUE(limits.volatile_cache);
    EXPECT_EQ(limits.read_only, mode == AccessMode::ro);
    const auto message = wire::load<wire::layout::Open>(volumes.requests.back().message).value();
    EXPECT_EQ(message.access_mode, static_cast<std::uint8_t>(mode));
    client->close(opened);
  }
}

TEST_F(KernelServerCases, C20_ErrorsOfOpenArriveUnchanged) {
  start();
  EXPECT_EQ(refusal("missing"), from_errno(ENOENT));
  EXPECT_EQ(refusal("a/../b"), from_errno(EINVAL));
  for (const int error : {ENOTBLK, EACCES, ENXIO, EBUSY, ENOMEDIUM}) {
    volume("odd").open_error = error;
    EXPECT_EQ(refusal("odd"), from_errno(error));
  }
}

TEST_F(KernelServerCases, C21_ConflictingModesAreEperm) {
  start();
  volume().writers = 1;  // another session's rw
  EXPECT_EQ(refusal("vol"), from_errno(EPERM));
  RemoteDevice& second = client->must_open("vol", AccessMode::migration);
  client->close(second);
  volume().writers = 2;
  EXPECT_EQ(refusal("vol", AccessMode::migration), from_errno(EPERM));
  client->close(client->must_open("vol", AccessMode::ro));
}

TEST_F(KernelServerCases, C23_DataOf4KiBIsCompared) {
  for (const bool always_invalidate : {true, false}) {
    auto options = kDefaults;
    options.always_invalidate = always_invalidate;
    start(options);
    volume();
    for (std::uint64_t at = 0; at < 40 * 4096; at += 4096) {
      Door& door = doors.empty() ? open() : *doors.back();
      write_and_read_back(door, at, 4096);
      EXPECT_TRUE(device->state() == client::DeviceState::open);
    }
    stop();
  }
}

TEST_F(KernelServerCases, C25_reads_of_one_sector_work_on_512_byte_blocks_and_not_on_4096) {
  start();
  volume();
  write_and_read_back(open(), 512, 512);
  write_and_read_back(*doors.back(), 7 * 512, 1536);
  volume("4k").about.logical_block_size = 4096;
  Door& door = open("4k");
  EXPECT_EQ(door.run(Io(Op::read, 512, 512)), from_errno(EINVAL));  // ours to refuse: not sent
  EXPECT_TRUE(volumes.ios.empty());
  write_and_read_back(door, 4096, 4096);
}

TEST_F(KernelServerCases, C26_MoreThanTheServersMaximumTravelsInPieces) {
  start();
  volume();
  write_and_read_back(open(), 0, 3 * kMaxIo);
  ASSERT_EQ(volumes.ios.size(), 6U);
  for (const auto& io : volumes.ios) EXPECT_EQ(io.data_length, kMaxIo);
}

TEST_F(KernelServerCases, C28_AFlushIsAReadOfNothingAtTheSectorOfAllOnes) {
  start();
  cached_volume();
  EXPECT_FALSE(open().run(Io(Op::flush, 0, 0)));
  ASSERT_EQ(volumes.ios.size(), 1U);
  const auto& io = volumes.ios[0];
  EXPECT_TRUE(io.read);
  EXPECT_EQ(io.descriptors, 0);
  EXPECT_EQ(io.data_length, 0U);
  EXPECT_EQ(io.message_size, 32U);
  EXPECT_EQ(io.message.sector, ~std::uint64_t{0});
  EXPECT_EQ(io.message.bi_size, 0U);
  EXPECT_EQ(io.message.rw & 0xffU, 2U);
}

TEST_F(KernelServerCases, C29_FuaTravelsAsItsBit) {
  start();
  cached_volume();
  EXPECT_FALSE(open().run(Io(Op::write, 0, 4096, block::kFua)));
  ASSERT_EQ(volumes.ios.size(), 1U);
  EXPECT_EQ(volumes.ios[0].message.rw, 0x301U);
  EXPECT_FALSE(doors.back()->run(Io(Op::read, 0, 4096)));
  EXPECT_EQ(volumes.ios[1].message.rw, 0x100U);
}

TEST_F(KernelServerCases, C30_C31_DiscardAndZeroesCarryNoDataAndMayExceedTheIoSize) {
  start();
  cached_volume();
  Door& door = open();
  Io write(Op::write, 0, 512 * 1024);
  EXPECT_FALSE(door.run(write.fill(1)));
  for (const Op op : {Op::discard, Op::write_zeroes}) {
    volumes.ios.clear();
    const std::uint64_t at = op == Op::discard ? 0 : 256 * 1024;
    EXPECT_FALSE(door.run(Io(op, at, 256 * 1024)));
    ASSERT_EQ(volumes.ios.size(), 1U) << "in one message";
    EXPECT_FALSE(volumes.ios[0].read);
    EXPECT_EQ(volumes.ios[0].data_length, 0U);
    EXPECT_EQ(volumes.ios[0].message.bi_size, 256U * 1024U);
    EXPECT_EQ(volumes.ios[0].message.rw & 0xffU, op == Op::discard ? 3U : 5U);
    EXPECT_TRUE(std::all_of(volume().bytes.begin() + static_cast<long>(at),
                            volume().bytes.begin() + static_cast<long>(at) + 256 * 1024,
                            [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_F(KernelServerCases, C30_C31_C32_WhatTheServerDoesNotAnnounceIsNotSupported) {
  start();
  volume();
  Door& door = open();
  for (const Op op : {Op::discard, Op::write_zeroes, Op::secure_erase})
    EXPECT_EQ(door.run(Io(op, 0, 4096)), from_errno(EOPNOTSUPP));
  EXPECT_TRUE(volumes.ios.empty());
}

TEST_F(KernelServerCases, C33_BeyondTheEndIsEio) {
  start();
  volume();
  Door& door = open();
  volume().bytes.resize(512 * 1024);  // it shrank behind our back
  EXPECT_EQ(door.run(Io(Op::read, 600 * 1024, 4096)), from_errno(EIO));
  EXPECT_EQ(volumes.ios.size(), 1U);
  write_and_read_back(door, 0, 4096);
}

TEST_F(KernelServerCases, C38_ErrorsOfIoArriveAndTheDeviceGoesOn) {
  start({.queue_depth = 4, .chunk_size = 16384});
  volume();
  Door& door = open();
  for (const int error : {EIO, EINVAL, ENOSPC, ETIMEDOUT, EREMOTEIO, ENODATA, EILSEQ, EBADE}) {
    for (const Op op : {Op::read, Op::write}) {
      volumes.io_error = error;
      EXPECT_EQ(door.run(Io(op, 0, 4096)), from_errno(error));
      volumes.io_error = 0;
      write_and_read_back(door, 0, 4096);
    }
  }
  EXPECT_EQ(device->state(), client::DeviceState::open);
}

TEST_F(KernelServerCases, C45_C46_DevicesComeBackAfterADisconnectAndAReload) {
  start();
  volume();
  volume("two");
  Door& one = open();
  Door& two = open("two");
  for (int life = 0; life < 2; ++life) {
    std::vector<std::unique_ptr<Io>> ios;
    for (std::uint64_t i = 0; i < 50; ++i) {
      ios.push_back(std::make_unique<Io>(Op::write, i * 4096, 4096));
      (i % 2 == 0 ? one : two).submit(ios.back()->fill(i));
    }
    world.run_for(30us);
    life == 0 ? server->disconnect() : server->reload(kDefaults);
    ASSERT_TRUE(world.run_until(
        [&] {
          return std::all_of(ios.begin(), ios.end(), [](auto& io) { return io->completions == 1; });
        },
        60s));
    for (std::uint64_t i = 0; i < ios.size(); ++i) {
      EXPECT_FALSE(ios[i]->result);
      const auto& bytes = volume(i % 2 == 0 ? "vol" : "two").bytes;
      EXPECT_TRUE(std::equal(ios[i]->memory.begin(), ios[i]->memory.end(),
                             bytes.begin() + static_cast<long>(i * 4096)));
    }
    EXPECT_EQ(volumes.open_count(), 2U);
  }
}

TEST_F(KernelServerCases, C47_AnotherQueueDepthFailsTheDeviceAndSaysWhy) {
  start();
  volume();
  Door& door = open();
  auto other = kDefaults;
  other.queue_depth = 32;
  server->reload(other);
  ASSERT_TRUE(world.run_until([&] { return device->state() == client::DeviceState::failed; }, 60s));
  EXPECT_EQ(device->last_error(), Errc::queue_depth_changed);
  EXPECT_TRUE(door.run(Io(Op::read, 0, 4096)));
}

TEST_F(KernelServerCases, C48_ALostPathIsFencedByCloseAndNothingIsLost) {
  start(kDefaults, 2);
  volume();
  Door& door = open();
  const auto ios = write_while_a_path_is_cut(door);
  for (std::uint64_t i = 0; i < ios.size(); ++i) {
    EXPECT_FALSE(ios[i]->result) << ios[i]->result.message();
    EXPECT_TRUE(std::equal(ios[i]->memory.begin(), ios[i]->memory.end(),
                           volume().bytes.begin() + static_cast<long>(i * 4096)));
  }
  EXPECT_FALSE(volumes.closed.empty()) << "its answer proves that nothing of before is running";
  world.link(client_host, server_host, 1, 1).heal();
}

// CLOSE goes over another connection than the requests: one that it overtook would find its device
// id unknown, or another device's.
TEST_F(KernelServerCases, C48_WhatIsUnderWayOverTheLivingPathIsBackBeforeClose) {
  start(kDefaults, 2);
  volume();
  Door& door = open();
  world.link(client_host, server_host, 0, 0)
      .set_latency({.base = 5us, .jitter = 5ms, .tail = 5ms, .tail_chance = 4});
  const auto ios = write_while_a_path_is_cut(door);
  EXPECT_FALSE(volumes.closed.empty());
  EXPECT_EQ(volumes.unknown_ids, 0);
  world.link(client_host, server_host, 1, 1).heal();
}

TEST_F(KernelServerCases, C49_WithoutAnyPathRequestsAreHeldAndThenServed) {
  start(kDefaults, 2);
  volume();
  Door& door = open();
  for (const std::size_t path : {0U, 1U}) world.link(client_host, server_host, path, path).cut();
  Io io(Op::write, 0, 4096);
  world.run_for(1ms);
  door.submit(io.fill(1));
  world.run_for(20s);
  EXPECT_EQ(io.completions, 0);
  for (const std::size_t path : {0U, 1U}) world.link(client_host, server_host, path, path).heal();
  ASSERT_TRUE(world.run_until([&] { return io.completions == 1; }, 120s));
  EXPECT_FALSE(io.result);
}

TEST_F(KernelServerCases, C51_ADeviceClosedByForceIsOpenedAnew) {
  start();
  volume();
  Door& door = open();
  write_and_read_back(door, 0, 4096);
  volumes.force_close("vol");
  write_and_read_back(door, 4096, 4096);  // ENOTCONN, and so held and opened anew
  EXPECT_EQ(device->state(), client::DeviceState::open);
}

TEST_F(KernelServerCases, C51_AnIdTakenByAnotherDeviceIsNotUsedAnyMore) {
  start();
  volume();
  volume("two");
  Door& one = open();
  volumes.force_close("vol");
  Door& two = open("two");  // under the id of the first, as a server may
  world.run_for(10ms);
  write_and_read_back(one, 0, 4096);
  write_and_read_back(two, 8192, 4096);
  EXPECT_EQ(volume("two").bytes[0], std::byte{0}) << "the other disk was written to";
  EXPECT_EQ(volume("vol").bytes[8192], std::byte{0});
  EXPECT_EQ(volumes.open_count(), 2U);
}

TEST_F(KernelServerCases, C52_C53_CloseIsSentAndTheLastOneLeavesNothing) {
  start();
  volume();
  RemoteDevice& opened = client->must_open("vol");
  client->close(opened);
  EXPECT_EQ(volumes.closed, std::vector<std::uint32_t>{0});
  EXPECT_EQ(volumes.open_count(), 0U);
  client.reset();
  EXPECT_TRUE(world.run_until([&] { return server->live_paths() == 0; }, 10s));
}

TEST_F(KernelServerCases, C59_AClientKilledAndStartedAtOnceWaitsForItsNameToBeFree) {
  start();
  volume();
  server->stale_names.insert("client");
  volume().writers = 1;
  world.after(34s, [this] {
    server->stale_names.clear();  // heartbeats were missed: the session and its mappings are gone
    volume().writers = 0;
  });
  write_and_read_back(open(), 0, 4096);
  EXPECT_GE(world.elapsed(), 34s);
}

TEST_F(KernelServerCases, C61_TwoSpellingsOfADeviceAreNotSent) {
  start();
  volume();
  client->must_open("/vol", AccessMode::ro);
  for (const char* path : {"vol", "//vol", "/./vol", "/vol/", "vol/."})
    EXPECT_EQ(refusal(path, AccessMode::ro), from_errno(EEXIST)) << path;
  EXPECT_EQ(volumes.second_spellings, 0);
}

TEST_F(KernelServerCases, C62_GreetingOpenAndCloseTravelOnConnectionZeroAndIoDoesNot) {
  start();
  volume();
  write_and_read_back(open(), 0, 4096);
  doors.clear();
  client->close(*device);
  for (const auto& request : volumes.requests) {
    const auto type = wire::load<wire::layout::RnbdHeader>(request.message)->type;
    EXPECT_EQ(request.cid == 0, type != 4) << type;
  }
  EXPECT_EQ(volumes.requests.size(), 5U);
}

}  // namespace
}  // namespace rnbd::testing
