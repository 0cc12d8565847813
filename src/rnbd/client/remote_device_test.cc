#include "rnbd/client/remote_device.h"

#include <gtest/gtest.h>

#include "rnbd/testing/site.h"

namespace rnbd::client {
namespace {

using block::Op;
using testing::ClientBox;
using testing::Disk;
using testing::DiskOptions;
using testing::Door;
using testing::Io;
using testing::Site;
using testing::small_disk;
using namespace std::chrono_literals;  // NOLINT: tests

constexpr std::uint32_t kMessageMax = 16384 - 4096;  // bytes one message of the test server carries

class RemoteDeviceTest : public ::testing::Test {
 protected:
  void start(const DiskOptions& options = small_disk(), AccessMode mode = AccessMode::rw) {
    disk = &site.add_disk("vol", options);
    client = std::make_unique<ClientBox>(site.world, site.server);
    device = &client->must_open("vol", mode);
    door = std::make_unique<Door>(site.world, *device, client->loop());
    disk->recording = true;
  }
  void TearDown() override {
    door.reset();
    client.reset();
    if (disk != nullptr) {
      EXPECT_EQ(disk->refused, 0);
      EXPECT_EQ(disk->overlaps, 0);
    }
  }
  std::error_code run(Op op, std::uint64_t offset, std::uint64_t length, std::uint8_t flags = 0) {
    return door->run(Io(op, offset, length, flags));
  }
  std::string seen() {
    std::string text;
    for (const auto& request : disk->seen) {
      text += std::string(text.empty() ? "" : ", ") + block::op_name(request.op);
      if ((request.flags & block::kFua) != 0) text += "+fua";
    }
    disk->seen.clear();
    return text;
  }

  Site site;
  Disk* disk = nullptr;
  std::unique_ptr<ClientBox> client;
  RemoteDevice* device = nullptr;
  std::unique_ptr<Door> door;
};

TEST_F(RemoteDeviceTest, ReadsBackWhatItWrote) {
  start();
  EXPECT_EQ(device->limits().size, disk->limits().size);
  EXPECT_EQ(device->state(), DeviceState::open);
  EXPECT_EQ(device->name(), "vol@client");
  EXPECT_EQ(device->session_name(), "client");
  Io write(Op::write, 4096, 4096);
  EXPECT_FALSE(door->run(write.fill(1)));
  Io read(Op::read, 4096, 4096);
  EXPECT_FALSE(door->run(read));
  EXPECT_EQ(read.memory, write.memory);
  EXPECT_TRUE(std::equal(write.memory.begin(), write.memory.end(), disk->bytes().begin() + 4096));
  const DeviceCounters counters = device->counters();
  EXPECT_EQ(counters.reads, 1U);
  EXPECT_EQ(counters.write_bytes, 4096U);
  EXPECT_EQ(counters.inflight, 0U);
}

TEST_F(RemoteDeviceTest, CutsRequestsThatAreLongerThanAMessage) {
  start();
  Io write(Op::write, 1024, 100 * 1024);
  EXPECT_FALSE(door->run(write.fill(2).scatter(1000)));
  EXPECT_EQ(disk->seen.size(), (100 * 1024 + kMessageMax - 1) / kMessageMax);
  Io read(Op::read, 1024, 100 * 1024);
  EXPECT_FALSE(door->run(read.scatter(777)));
  EXPECT_EQ(read.memory, write.memory);
  EXPECT_EQ(device->counters().writes, 1U) << "it is one request all the same";
}

TEST_F(RemoteDeviceTest, TakesMemoryScatteredInAnyWay) {
  start();
  Io write(Op::write, 0, 8192);
  EXPECT_FALSE(door->run(write.fill(3).scatter(5)));
  Io read(Op::read, 0, 8192);
  EXPECT_FALSE(door->run(read.scatter(1111)));
  EXPECT_EQ(read.memory, write.memory);
  Io dust(Op::write, 0, 1024);
  EXPECT_EQ(door->run(dust.scatter(3)), from_errno(EINVAL))
      << "one block in more segments than a message has";
}

TEST_F(RemoteDeviceTest, SpeaksBlocksOf4096Bytes) {
  auto options = small_disk();
  options.limits.logical_block_size = options.limits.physical_block_size = 4096;
  start(options);
  EXPECT_EQ(device->limits().logical_block_size, 4096U);
  Io write(Op::write, 8192, 65536);
  EXPECT_FALSE(door->run(write.fill(4).scatter(100)));
  Io read(Op::read, 8192, 65536);
  EXPECT_FALSE(door->run(read));
  EXPECT_EQ(read.memory, write.memory);
  EXPECT_EQ(run(Op::read, 512, 4096), from_errno(EINVAL));
  EXPECT_EQ(run(Op::read, 0, 512), from_errno(EINVAL));
}

TEST_F(RemoteDeviceTest, MakesStableWithTheServersFua) {
  start();
  EXPECT_FALSE(run(Op::write, 0, 512, block::kFua));
  EXPECT_EQ(seen(), "write+fua");
  EXPECT_FALSE(run(Op::write, 0, 512, block::kFua | block::kPreflush));
  EXPECT_EQ(seen(), "flush, write+fua");
  EXPECT_FALSE(run(Op::flush, 0, 0));
  EXPECT_EQ(seen(), "flush");
  EXPECT_FALSE(run(Op::discard, 0, 512, block::kFua));
  EXPECT_EQ(seen(), "discard, flush");
  EXPECT_FALSE(run(Op::write, 0, 0, block::kFua));
  EXPECT_EQ(seen(), "flush");
  EXPECT_FALSE(run(Op::write, 0, 0));
  EXPECT_EQ(seen(), "");
}

TEST_F(RemoteDeviceTest, MakesStableByFlushingWhereTheServerHasNoFua) {
  auto options = small_disk();
  options.limits.fua = false;
  start(options);
  EXPECT_TRUE(device->limits().fua) << "by our own work";
  EXPECT_FALSE(run(Op::write, 0, 512, block::kFua));
  EXPECT_EQ(seen(), "write, flush");
  EXPECT_FALSE(run(Op::write_zeroes, 0, 512, block::kFua | block::kPreflush));
  EXPECT_EQ(seen(), "flush, write_zeroes, flush");
}

TEST_F(RemoteDeviceTest, FlushesNothingWhereThereIsNoCache) {
  auto options = small_disk();
  options.limits.volatile_cache = false;
  start(options);
  EXPECT_FALSE(run(Op::flush, 0, 0));
  EXPECT_EQ(seen(), "");
  EXPECT_FALSE(run(Op::write, 0, 512, block::kFua | block::kPreflush));
  EXPECT_EQ(seen(), "write");
}

TEST_F(RemoteDeviceTest, CutsDiscardsAndZeroesByTheServersLimits) {
  auto options = small_disk();
  options.limits.max_discard = 8192;
  options.limits.max_write_zeroes = 16384;
  start(options);
  EXPECT_FALSE(door->run(Io(Op::write, 0, 65536).fill(5)));
  seen();
  EXPECT_FALSE(run(Op::discard, 512, 32768));
  EXPECT_EQ(seen(), "discard, discard, discard, discard");
  EXPECT_FALSE(run(Op::write_zeroes, 512, 65536, block::kNoUnmap));
  EXPECT_EQ(seen(), "write_zeroes, write_zeroes, write_zeroes, write_zeroes");
  EXPECT_TRUE(std::all_of(disk->bytes().begin() + 512, disk->bytes().begin() + 512 + 65536,
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(RemoteDeviceTest, RefusesWhatTheServerCannotDoWithoutAskingIt) {
  auto options = small_disk();
  options.limits.max_discard = options.limits.max_write_zeroes = 0;
  start(options);
  for (const Op op : {Op::discard, Op::secure_erase, Op::write_zeroes})
    EXPECT_EQ(run(op, 0, 512), from_errno(EOPNOTSUPP));
  EXPECT_EQ(run(Op::read, disk->limits().size, 512), from_errno(EIO));
  EXPECT_EQ(run(Op::read, 1, 512), from_errno(EINVAL));
  EXPECT_EQ(seen(), "");
}

TEST_F(RemoteDeviceTest, S9_AReadOnlyDeviceSendsNoChange) {
  start(small_disk(), AccessMode::ro);
  EXPECT_TRUE(device->limits().read_only);
  for (const Op op : {Op::write, Op::discard, Op::write_zeroes})
    EXPECT_EQ(run(op, 0, 512), Errc::read_only);
  EXPECT_EQ(seen(), "");
  EXPECT_FALSE(run(Op::read, 0, 512));
}

TEST_F(RemoteDeviceTest, ReportsTheFirstErrorOfARequestOnce) {
  start();
  disk->fail_next(1, ENOSPC,
                  [](const block::Request& request) { return request.offset == 2 * kMessageMax; });
  Io write(Op::write, 0, 8 * kMessageMax);
  EXPECT_EQ(door->run(write.fill(6)), from_errno(ENOSPC));
  site.world.run_for(50ms);
  EXPECT_EQ(write.completions, 1);
  EXPECT_EQ(device->counters().errors, 1U);
  EXPECT_FALSE(door->run(write)) << "the request can be used again";
}

TEST_F(RemoteDeviceTest, NeverCompletesInsideSubmit) {
  start();
  bool inside = false, any = false;
  std::vector<std::unique_ptr<Io>> all;
  for (auto [op, offset, length] : {std::tuple{Op::read, std::uint64_t{1}, std::uint64_t{512}},
                                    {Op::write, 0, 0},
                                    {Op::secure_erase, 0, 512},
                                    {Op::flush, 0, 0},
                                    {Op::read, 0, 512}}) {
    all.push_back(std::make_unique<Io>(op, offset, length));
    all.back()->then = [&](Io&) { any |= inside; };
  }
  site.world.after(
      0ns,
      [&] {
        inside = true;
        for (auto& io : all) door->queue().submit(*io);
        inside = false;
      },
      &door->loop());
  ASSERT_TRUE(site.world.run_until(
      [&] {
        return std::all_of(all.begin(), all.end(), [](auto& io) { return io->completions == 1; });
      },
      10s));
  EXPECT_FALSE(any);
}

// More requests than permits, from two devices on two loops: each ends exactly once, and nobody
// starves.
TEST(RemoteDeviceLoad, I6_CompletesEveryRequestOnceUnderMoreLoadThanPermits) {
  Site site;
  Disk& one = site.add_disk("one");
  Disk& two = site.add_disk("two");
  ClientBox client(site.world, site.server, {.loops = 2});
  RemoteDevice& first = client.must_open("one");
  RemoteDevice& second = client.must_open("two");
  {
    std::vector<std::unique_ptr<Door>> doors;
    for (RemoteDevice* device : {&first, &second}) {
      for (std::size_t loop : {0U, 1U})
        doors.push_back(std::make_unique<Door>(site.world, *device, client.loop(loop)));
    }
    std::vector<std::unique_ptr<Io>> all;
    for (std::size_t i = 0; i < 400; ++i) {
      all.push_back(std::make_unique<Io>(Op::write, i / 4 * 2048, i % 16 == 0 ? 2048 : 512));
      all.back()->fill(i);
      doors[i % 4]->submit(*all.back());
    }
    ASSERT_TRUE(site.world.run_until(
        [&] {
          return std::all_of(all.begin(), all.end(), [](auto& io) { return io->completions > 0; });
        },
        60s));
    site.world.run_for(10ms);
    for (auto& io : all) {
      EXPECT_EQ(io->completions, 1);
      EXPECT_FALSE(io->result);
    }
    EXPECT_EQ(first.counters().writes + second.counters().writes, 400U);
    EXPECT_EQ(first.counters().inflight, 0U);
  }
  EXPECT_EQ(one.overlaps + two.overlaps, 0);
}

}  // namespace
}  // namespace rnbd::client
