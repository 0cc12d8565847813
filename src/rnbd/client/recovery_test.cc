// What a device does when its server, or the way to it, goes away.

#include <gtest/gtest.h>

#include "rnbd/testing/site.h"

namespace rnbd::client {
namespace {

using block::Op;
using testing::ClientBox;
using testing::ClientBoxOptions;
using testing::Disk;
using testing::Door;
using testing::Io;
using testing::Site;
using testing::small_disk;
using namespace std::chrono_literals;  // NOLINT: tests

class RecoveryTest : public ::testing::Test, public block::DeviceWatcher {
 protected:
  void start(Duration hold_timeout = {}) {
    disk = &site.add_disk("vol");
    client = std::make_unique<ClientBox>(site.world, site.server, ClientBoxOptions{.loops = 2});
    device = &client->must_open("vol", AccessMode::rw, hold_timeout);
    device->set_watcher(this);
    for (std::size_t i : {0U, 1U})
      doors.push_back(std::make_unique<Door>(site.world, *device, client->loop(i)));
  }
  void TearDown() override {
    doors.clear();
    client.reset();
    EXPECT_EQ(disk->overlaps, 0);
  }
  void on_resized(std::uint64_t size) override { resized_to = size; }

  // Writes to distinct blocks, spread over the loops.
  void write(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t block = all.size();
      all.push_back(std::make_unique<Io>(Op::write, block * 1024, 1024));
      all.back()->fill(block + 1000);
      doors[block % 2]->submit(*all.back());
    }
  }
  bool all_done() const {
    return std::all_of(all.begin(), all.end(), [](auto& io) { return io->completions == 1; });
  }
  bool wait_until(const std::function<bool()>& done, Duration limit = 60s) {
    return site.world.run_until(done, limit);
  }
  bool wait_for(DeviceState state) {
    return wait_until([&] { return device->state() == state; });
  }
  void expect_all_written() {
    ASSERT_TRUE(wait_until([&] { return all_done(); }));
    for (auto& io : all) {
      EXPECT_FALSE(io->result) << io->result.message();
      EXPECT_TRUE(std::equal(io->memory.begin(), io->memory.end(),
                             disk->bytes().begin() + static_cast<long>(io->offset)));
    }
  }
  void restart_server() {
    site.server.stop();
    ASSERT_TRUE(wait_until([&] { return site.server.stopped(); }));
    site.server.start();
  }

  Site site;
  Disk* disk = nullptr;
  std::unique_ptr<ClientBox> client;
  RemoteDevice* device = nullptr;
  std::vector<std::unique_ptr<Door>> doors;
  std::vector<std::unique_ptr<Io>> all;
  std::uint64_t resized_to = 0;
};

TEST_F(RecoveryTest, HoldsRequestsWhileTheWayIsCutAndSendsThemAgain) {
  start();
  write(100);
  site.world.run_for(100us);
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  write(50);
  site.world.run_for(2s);
  EXPECT_FALSE(all_done());
  EXPECT_GT(device->counters().held, 50U);
  EXPECT_TRUE(device->last_error());
  site.link(*client).heal();
  ASSERT_TRUE(wait_for(DeviceState::open));
  expect_all_written();
  EXPECT_EQ(device->counters().held, 0U);
  EXPECT_FALSE(device->last_error());
}

// ---- R9: what a server forgot ----

class R9_RecoveryTest : public RecoveryTest {
 protected:
  void start_known() {
    site.announce(1, 1);
    restart_server();
    start();
  }
  void come_back_as(std::uint8_t life, std::uint8_t boot) {
    site.announce(life, boot);
    restart_server();
  }
  void write_and_wait() {
    write(4);
    ASSERT_TRUE(wait_until([&] { return all_done(); }));
  }
};

TEST_F(R9_RecoveryTest, ADeviceWithUnflushedWritesFailsWhenItsServerHostWasRebooted) {
  start_known();
  write_and_wait();
  come_back_as(2, 2);
  ASSERT_TRUE(wait_for(DeviceState::failed));
  EXPECT_EQ(device->last_error(), Errc::writes_lost);
  Io read(Op::read, 0, 1024);
  EXPECT_EQ(doors[0]->run(read), Errc::device_failed);
}

TEST_F(R9_RecoveryTest, OneWhoseWritesWereFlushedGoesOn) {
  start_known();
  write_and_wait();
  Io flush(Op::flush, 0, 0);
  EXPECT_FALSE(doors[1]->run(flush));
  come_back_as(2, 2);
  expect_all_written();
  EXPECT_TRUE(wait_for(DeviceState::open));
}

TEST_F(R9_RecoveryTest, AServerThatOnlyRestartedHasForgottenNothing) {
  start_known();
  write_and_wait();
  come_back_as(2, 1);
  write_and_wait();
  expect_all_written();
}

// The server forgets that a flush failed when it is restarted; its clients do not.
TEST_F(R9_RecoveryTest, R10_AfterAFailedFlushNoneSucceedsUntilTheVolumeIsMappedAnew) {
  start_known();
  write_and_wait();
  disk->fail_next(1, EIO, [](const block::Request& request) { return request.op == Op::flush; });
  Io first(Op::flush, 0, 0), second(Op::flush, 0, 0);
  EXPECT_EQ(doors[0]->run(first), from_errno(EIO));
  come_back_as(2, 1);
  write_and_wait();
  EXPECT_EQ(doors[1]->run(second), from_errno(EIO));
  Io fua(Op::write, 0, 1024, block::kFua);
  EXPECT_EQ(doors[0]->run(fua), from_errno(EIO));
}

// ---- how long is waited is the operator's to change ----

TEST_F(RecoveryTest, R15_HoldTimeoutIsChangedWhileRequestsAreHeld) {
  start();
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  write(4);
  site.world.run_for(20s);
  EXPECT_EQ(device->state(), DeviceState::closed);
  client->on_home([&] { device->set_hold_timeout(60s); });
  site.world.run_for(30s);
  EXPECT_EQ(device->state(), DeviceState::closed);
  client->on_home([&] { device->set_hold_timeout(10s); });  // long past
  ASSERT_TRUE(wait_for(DeviceState::failed));
  ASSERT_TRUE(wait_until([&] { return all_done(); }, 1s));
  for (auto& io : all) EXPECT_TRUE(io->result);
}

TEST_F(RecoveryTest, HoldTimeoutTakenBackHoldsForEver) {
  start(10s);
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  client->on_home([&] { device->set_hold_timeout(0s); });
  write(4);
  site.world.run_for(300s);
  EXPECT_EQ(device->state(), DeviceState::closed);
  site.link(*client).heal();
  expect_all_written();
}

TEST_F(RecoveryTest, GoesOnAfterARestartOfTheServer) {
  start();
  for (int i = 0; i < 3; ++i) {
    write(60);
    site.world.run_for(200us);
    restart_server();
  }
  expect_all_written();
}

TEST_F(RecoveryTest, GoesOnAfterACrashOfTheServer) {
  start();
  write(60);
  site.world.run_for(150us);
  site.server.crash();
  disk->crash();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  site.world.run_for(1s);
  site.server.restart();
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  for (auto& io : all) EXPECT_FALSE(io->result);
}

TEST_F(RecoveryTest, R15_TheWholeDeviceFailsWhenItWasHeldTooLong) {
  start(3s);
  write(100);
  site.world.run_for(100us);
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  site.world.run_for(2s);
  const auto finished =
      std::count_if(all.begin(), all.end(), [](auto& io) { return io->completions > 0; });
  EXPECT_LT(finished, 100);
  ASSERT_TRUE(wait_for(DeviceState::failed));
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  int failed = 0;
  for (auto& io : all) {
    if (!io->result) continue;
    EXPECT_EQ(io->result, Errc::device_failed);
    EXPECT_EQ(to_errno(io->result), EIO);
    ++failed;
  }
  EXPECT_EQ(failed, 100 - finished);
  site.link(*client).heal();
  site.world.run_for(5s);
  const auto bytes = disk->bytes();
  EXPECT_EQ(device->state(), DeviceState::failed) << "the way is back, but it has told its users";
  Io late(Op::write, 0, 1024);
  EXPECT_EQ(doors[0]->run(late.fill(1)), Errc::device_failed);
  EXPECT_EQ(disk->bytes(), bytes) << "nothing is written any more";
}

TEST_F(RecoveryTest, AnOperatorCanFailADevice) {
  start();
  site.link(*client).cut();
  write(10);
  ASSERT_TRUE(wait_for(DeviceState::closed));
  client->on_home([&] { client->client().fail_device(*device); });
  ASSERT_TRUE(wait_until([&] { return all_done(); }, 1s));
  for (auto& io : all) EXPECT_EQ(io->result, Errc::device_failed);
}

TEST_F(RecoveryTest, WaitsForAnotherWriterToLeave) {
  start();
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  write(5);
  {
    ClientBox other(site.world, site.server, {.name = "other"});
    ASSERT_TRUE(wait_until([&] { return site.opener.open_devices == 0; }));
    other.must_open("vol");
    site.link(*client).heal();
    site.world.run_for(10s);
    EXPECT_EQ(device->state(), DeviceState::closed);
    EXPECT_EQ(device->last_error(), from_errno(EPERM));
    EXPECT_FALSE(all_done());
  }
  ASSERT_TRUE(wait_for(DeviceState::open));
  expect_all_written();
}

TEST_F(RecoveryTest, OpensAnewWhatTheServerClosedByForce) {
  start();
  write(40);
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  const auto open = site.list();
  bool forced = false;
  site.exports().force_close(open[0].session_id, open[0].device_id,
                             [&](std::error_code) { forced = true; });
  write(40);
  ASSERT_TRUE(wait_until([&] { return forced; }));
  expect_all_written();
  ASSERT_TRUE(wait_for(DeviceState::open));
  EXPECT_NE(site.list()[0].device_id, open[0].device_id);
}

TEST_F(RecoveryTest, TellsThatADeviceHasGrown) {
  start();
  disk->resize(2 << 20);
  site.link(*client).reset();
  ASSERT_TRUE(wait_until([&] { return resized_to == 2U << 20; }));
  EXPECT_EQ(device->limits().size, 2U << 20);
  Io write_behind(Op::write, 1 << 20, 512);
  EXPECT_FALSE(doors[1]->run(write_behind));
}

TEST_F(RecoveryTest, S16_ADeviceThatShrankIsNotTheSame) {
  start();
  disk->limits().size /= 2;
  site.link(*client).reset();
  write(3);
  ASSERT_TRUE(wait_for(DeviceState::failed));
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  EXPECT_EQ(device->last_error(), Errc::bad_geometry);
  EXPECT_EQ(disk->bytes()[0], std::byte{0}) << "nothing was written to it";
  ASSERT_TRUE(wait_until([&] { return site.opener.open_devices == 0; })) << "and it was closed";
}

TEST_F(RecoveryTest, S16_ADeviceWithOtherBlocksIsNotTheSame) {
  start();
  disk->limits().logical_block_size = disk->limits().physical_block_size = 4096;
  site.link(*client).reset();
  ASSERT_TRUE(wait_for(DeviceState::failed));
}

TEST_F(RecoveryTest, K25_ClosesADeviceInTheMiddleOfARecovery) {
  for (int round = 0; round < 30; ++round) {
    if (round == 0)
      start();
    else
      device = &client->must_open("vol");
    doors.clear();
    site.link(*client).reset();
    site.world.run_for(site.world.some(150ms));
    client->close(*device);
    EXPECT_TRUE(client->client().devices().empty());
  }
  ASSERT_TRUE(wait_until([&] { return site.opener.open_devices == 0; }));
}

}  // namespace
}  // namespace rnbd::client
