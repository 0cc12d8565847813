#include "rnbd/client/remote_device.h"

#include <gtest/gtest.h>

#include "rnbd/testing/site.h"

namespace rnbd::client {
namespace {

using testing::ClientBox;
using testing::Disk;
using testing::Door;
using testing::Io;
using testing::Site;
using block::Op;
using namespace std::chrono_literals;  // NOLINT: tests

TEST(RemoteDevice, ReadsBackWhatItWrote) {
  Site site;
  Disk& disk = site.add_disk("vol");
  ClientBox client(site.world, site.server);
  RemoteDevice& device = client.must_open("/vol");
  EXPECT_EQ(device.limits().size, disk.limits().size);
  EXPECT_EQ(device.state(), DeviceState::open);
  EXPECT_EQ(device.name(), "/vol@client");
  {
    Door door(site.world, device, client.loop());
    Io write(Op::write, 4096, 4096);
    write.fill(1);
    EXPECT_FALSE(door.run(write));
    Io read(Op::read, 4096, 4096);
    EXPECT_FALSE(door.run(read));
    EXPECT_EQ(read.memory, write.memory);
    EXPECT_TRUE(std::equal(write.memory.begin(), write.memory.end(), disk.bytes().begin() + 4096));
    const DeviceCounters counters = device.counters();
    EXPECT_EQ(counters.reads, 1U);
    EXPECT_EQ(counters.write_bytes, 4096U);
    EXPECT_EQ(counters.inflight, 0U);
  }
  EXPECT_EQ(disk.refused, 0);
}

}  // namespace
}  // namespace rnbd::client
