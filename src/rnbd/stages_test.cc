// How long requests spend in each stage, at the client and at the server, and what of it is whose.

#include <gtest/gtest.h>

#include "rnbd/testing/site.h"

namespace rnbd::testing {
namespace {

using block::Op;
using namespace std::chrono_literals;  // NOLINT: tests

class StagesTest : public ::testing::Test {
 protected:
  StagesTest() {
    disk = &site.add_disk("vol");
    client = std::make_unique<ClientBox>(site.world, site.server);
    device = &client->must_open("vol");
    door = std::make_unique<Door>(site.world, *device, client->loop());
  }
  ~StagesTest() override {
    door.reset();
    client.reset();
  }
  // The disk takes this long for the next request.
  void read_held_for(Duration time) {
    Io io(Op::read, 0, 4096);
    disk->hold(true);
    door->submit(io);
    site.world.run_for(time);
    disk->hold(false);
    ASSERT_TRUE(site.world.run_until([&] { return io.completions == 1; }, 10s));
  }

  Site site;
  Disk* disk = nullptr;
  std::unique_ptr<ClientBox> client;
  client::RemoteDevice* device = nullptr;
  std::unique_ptr<Door> door;
};

TEST_F(StagesTest, ASlowBackendIsSeenInBackendAndInWireAndNowhereElse) {
  read_held_for(100ms);
  const client::DeviceCounters counters = device->counters();
  EXPECT_EQ(counters.queue.count(), 1U);
  EXPECT_LT(counters.queue.max(), 1ms);
  EXPECT_EQ(counters.wire.count(), 1U);
  EXPECT_GE(counters.wire.max(), 90ms);
  const auto opens = site.list();
  ASSERT_EQ(opens.size(), 1U);
  EXPECT_EQ(opens[0].backend.count(), 1U);
  EXPECT_GE(opens[0].backend.max(), 90ms);
  EXPECT_EQ(opens[0].server.count(), 1U);
  EXPECT_LT(opens[0].server.max(), 1ms);
  EXPECT_LE(opens[0].backend.max() + opens[0].server.max(), counters.wire.max());
}

TEST_F(StagesTest, WhatWaitsForAnAbsentServerIsInTheQueue) {
  site.link(*client).cut();
  Io io(Op::read, 0, 4096);
  ASSERT_TRUE(
      site.world.run_until([&] { return device->state() != client::DeviceState::open; }, 60s));
  door->submit(io);
  site.world.run_for(2s);
  site.link(*client).heal();
  ASSERT_TRUE(site.world.run_until([&] { return io.completions == 1; }, 60s));
  EXPECT_GE(device->counters().queue.max(), 2s);
  EXPECT_LT(device->counters().wire.max(), 1s);
}

TEST_F(StagesTest, RequestsInFlightAreCountedOfTheOpen) {
  Io io(Op::read, 0, 4096);
  disk->hold(true);
  door->submit(io);
  site.world.run_for(10ms);
  EXPECT_EQ(site.list()[0].inflight, 1U);
  disk->hold(false);
  ASSERT_TRUE(site.world.run_until([&] { return io.completions == 1; }, 10s));
  EXPECT_EQ(site.list()[0].inflight, 0U);
}

TEST_F(StagesTest, AResetTakesBackAllButWhatIsInFlight) {
  Io write(Op::write, 0, 4096);
  ASSERT_FALSE(door->run(write));
  Io io(Op::read, 0, 4096);
  disk->hold(true);
  door->submit(io);
  site.world.run_for(10ms);
  device->reset_counters();
  client::DeviceCounters counters = device->counters();
  EXPECT_EQ(counters.writes + counters.write_bytes, 0U);
  EXPECT_EQ(counters.wire.count(), 0U);
  EXPECT_EQ(counters.inflight, 1U);
  disk->hold(false);
  ASSERT_TRUE(site.world.run_until([&] { return io.completions == 1; }, 10s));
  counters = device->counters();
  EXPECT_EQ(counters.reads, 1U);
  EXPECT_EQ(counters.wire.count(), 1U);
  EXPECT_EQ(counters.inflight, 0U);
}

}  // namespace
}  // namespace rnbd::testing
