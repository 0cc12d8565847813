// What an administrator asks of a device, and what happens to it on its server meanwhile.

#include <gtest/gtest.h>

#include "rnbd/testing/scripted_server.h"
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
using namespace std::chrono_literals;  // NOLINT: tests

constexpr std::uint64_t kSize = 1 << 20;  // of a small disk

class DeviceAdminTest : public ::testing::Test, public block::DeviceWatcher {
 protected:
  // `own`: the server announces itself as ours.
  void start(bool own = true, Duration hold_timeout = {}) {
    if (own) site.announce(1, 1);
    restart_server();
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
    EXPECT_EQ(disk->refused, 0);
  }
  void on_resized(std::uint64_t size) override {
    EXPECT_LE(size, disk->limits().size);
    resized_to = size;
  }
  bool wait_until(const std::function<bool()>& done, Duration limit = 60s) {
    return site.world.run_until(done, limit);
  }
  bool wait_for(DeviceState state) {
    return wait_until([&] { return device->state() == state; });
  }
  void restart_server() {
    site.server.stop();
    ASSERT_TRUE(wait_until([&] { return site.server.stopped(); }));
    site.server.start();
  }
  std::error_code run(Op op, std::uint64_t offset, std::size_t door = 0) {
    return doors[door]->run(Io(op, offset, op == Op::flush ? 0 : 512));
  }
  struct Resized {
    std::error_code error;
    std::uint64_t there = 0;
  };
  Resized resize(std::uint64_t size) {
    std::optional<Resized> result;
    client->on_home([&] {
      device->resize(size, [&](std::error_code error, std::uint64_t there) {
        EXPECT_FALSE(result) << "told twice";
        result = {error, there};
      });
    });
    EXPECT_TRUE(wait_until([&] { return result.has_value(); }));
    return *result;
  }
  using Command = void (RemoteDevice::*)(RemoteDevice::Done);
  std::error_code command(Command what) {
    std::optional<std::error_code> result;
    client->on_home([&] {
      (device->*what)([&](std::error_code error) {
        EXPECT_FALSE(result) << "told twice";
        result = error;
      });
    });
    EXPECT_TRUE(wait_until([&] { return result.has_value(); }));
    return *result;
  }
  std::error_code remap() { return command(&RemoteDevice::remap); }
  std::error_code recover() { return command(&RemoteDevice::recover); }
  void fail_device() {
    client->on_home([&] { client->client().fail_device(*device); });
    ASSERT_TRUE(wait_for(DeviceState::failed));
  }
  void force_close() {
    const auto opens = site.list();
    ASSERT_EQ(opens.size(), 1U);
    site.exports().force_close(opens[0].session_id, opens[0].device_id, [](std::error_code) {});
  }

  Site site;
  Disk* disk = nullptr;
  std::unique_ptr<ClientBox> client;
  RemoteDevice* device = nullptr;
  std::vector<std::unique_ptr<Door>> doors;
  std::uint64_t resized_to = 0;
};

// ---- resize ----

TEST_F(DeviceAdminTest, AVolumeThatGrowsOnOurServerGrowsHereByItself) {
  start();
  disk->resize(2 * kSize);
  ASSERT_TRUE(wait_until([&] { return resized_to == 2 * kSize; }, 3s));
  EXPECT_EQ(device->limits().size, 2 * kSize);
  EXPECT_EQ(device->state(), DeviceState::open);
  for (const std::size_t door : {0U, 1U}) {
    EXPECT_FALSE(run(Op::write, 2 * kSize - 512, door));
    EXPECT_TRUE(run(Op::write, 2 * kSize, door));
  }
  Io zeroes(Op::write_zeroes, 0, 2 * kSize);
  EXPECT_FALSE(doors[0]->run(zeroes));
}

TEST_F(DeviceAdminTest, ItGrowsUnderLoadAndOverSeveralSteps) {
  start();
  std::vector<std::unique_ptr<Io>> all;
  for (std::uint64_t step = 2; step <= 6; ++step) {
    disk->resize(step * kSize);
    for (std::size_t i = 0; i < 60; ++i) {
      all.push_back(std::make_unique<Io>(Op::write, all.size() * 512, 512));
      doors[i % 2]->submit(*all.back());
    }
    site.world.run_for(site.world.some(1s));
  }
  ASSERT_TRUE(wait_until([&] { return device->limits().size == 6 * kSize; }, 3s));
  ASSERT_TRUE(wait_until([&] {
    return std::ranges::all_of(all, [](const auto& io) { return io->completions == 1; });
  }));
  for (const auto& io : all) EXPECT_FALSE(io->result);
}

TEST_F(DeviceAdminTest, AServerLikeTheKernelsIsAskedByCommand) {
  start(false);
  disk->resize(4 * kSize);
  site.world.run_for(10s);
  EXPECT_EQ(device->limits().size, kSize);
  EXPECT_FALSE(resize(2 * kSize).error);
  EXPECT_EQ(resized_to, 2 * kSize);
  const Resized all = resize(0);
  EXPECT_FALSE(all.error);
  EXPECT_EQ(all.there, 4 * kSize);
  EXPECT_EQ(device->limits().size, 4 * kSize);
  EXPECT_FALSE(run(Op::write, 4 * kSize - 512));
}

TEST_F(DeviceAdminTest, ASizeThatTheServerHasNotOrThatWouldShrinkTheDeviceIsRefused) {
  start(false);
  disk->resize(2 * kSize);
  const Resized more = resize(2 * kSize + 512);
  EXPECT_EQ(more.error, from_errno(EINVAL));
  EXPECT_EQ(more.there, 2 * kSize);
  EXPECT_EQ(resize(2 * kSize - 1).error, from_errno(EINVAL)) << "no whole block";
  EXPECT_EQ(resize(kSize - 512).error, from_errno(EBUSY));
  EXPECT_FALSE(resize(kSize).error) << "as it is";
  EXPECT_EQ(device->limits().size, kSize);
  EXPECT_EQ(resized_to, 0U);
}

TEST_F(DeviceAdminTest, ADeviceThatIsNotOpenIsNotResized) {
  start(false);
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  EXPECT_EQ(resize(0).error, from_errno(ENOENT));
  site.link(*client).heal();
  ASSERT_TRUE(wait_for(DeviceState::open));
  fail_device();
  EXPECT_EQ(resize(0).error, from_errno(ENOENT));
}

TEST_F(DeviceAdminTest, AVolumeThatShrinksKeepsItsSizeHereAndFailsBeyondItsEnd) {
  start();
  disk->resize(kSize / 2);
  site.world.run_for(5s);
  EXPECT_EQ(device->limits().size, kSize);
  EXPECT_EQ(device->state(), DeviceState::open);
  EXPECT_EQ(run(Op::read, kSize / 2), from_errno(EIO));
  EXPECT_EQ(run(Op::write, kSize - 512, 1), from_errno(EIO));
  EXPECT_FALSE(run(Op::write, kSize / 2 - 512));
  EXPECT_EQ(resize(0).error, from_errno(EBUSY));
  disk->resize(2 * kSize);
  ASSERT_TRUE(wait_until([&] { return device->limits().size == 2 * kSize; }, 3s));
  EXPECT_FALSE(run(Op::write, kSize - 512, 1));
}

// ---- force close ----

TEST_F(DeviceAdminTest, AForceClosedDeviceIsOpenedAnewWithoutBeingUsed) {
  start();
  force_close();
  ASSERT_TRUE(wait_until([&] { return site.list().empty(); }, 1s));
  ASSERT_TRUE(wait_until([&] { return site.list().size() == 1; }, 2s));
  ASSERT_TRUE(wait_for(DeviceState::open));
  EXPECT_FALSE(run(Op::write, 0));
  EXPECT_FALSE(run(Op::read, 0, 1));
}

TEST_F(DeviceAdminTest, R15_RequestsUnderWayWhenADeviceIsTakenAwayAreDoneAllTheSame) {
  start();
  for (int round = 0; round < 10; ++round) {
    std::vector<std::unique_ptr<Io>> all;
    for (std::size_t i = 0; i < 200; ++i) {
      all.push_back(std::make_unique<Io>(Op::write, i * 512, 512));
      doors[i % 2]->submit(all.back()->fill(i));
    }
    site.world.run_for(site.world.some(1ms));
    force_close();
    ASSERT_TRUE(wait_until([&] {
      return std::ranges::all_of(all, [](const auto& io) { return io->completions == 1; });
    }));
    for (const auto& io : all) {
      EXPECT_FALSE(io->result) << io->result.message();
      EXPECT_TRUE(std::ranges::equal(
          io->memory, std::span(disk->bytes()).subspan(io->offset, io->memory.size())));
    }
  }
}

// ---- remap ----

TEST_F(DeviceAdminTest, RemapSaysWhatTheStateIs) {
  start();
  EXPECT_EQ(remap(), from_errno(EALREADY));
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  EXPECT_EQ(remap(), from_errno(ECONNABORTED));
  site.link(*client).heal();
  ASSERT_TRUE(wait_for(DeviceState::open));
}

TEST_F(DeviceAdminTest, RemapOpensAClosedDeviceNowAndTellsTheServersRefusal) {
  start(false);
  site.opener.fail_opens(EACCES);
  force_close();
  ASSERT_TRUE(wait_until([&] { return site.list().empty(); }, 1s));
  Io late(Op::write, 0, 512);
  doors[0]->submit(late);
  ASSERT_TRUE(wait_until([&] { return device->last_error() == from_errno(EACCES); }));
  site.world.run_for(30s);  // its own attempts are rare by now
  EXPECT_EQ(device->state(), DeviceState::closed);
  EXPECT_EQ(remap(), from_errno(EACCES));
  EXPECT_EQ(device->state(), DeviceState::closed);
  site.opener.fail_opens(0);
  const TimePoint before = site.world.now();
  EXPECT_FALSE(remap());
  EXPECT_LT(site.world.now() - before, 100ms);
  EXPECT_EQ(device->state(), DeviceState::open);
  ASSERT_TRUE(wait_until([&] { return late.completions == 1; }));
  EXPECT_FALSE(late.result);
}

// ---- recover ----

TEST_F(DeviceAdminTest, R15_AFailedDeviceGetsAnotherChanceAndWhatWasFailedStaysFailed) {
  start(true, 1s);
  EXPECT_EQ(recover(), from_errno(EALREADY)) << "it is well";
  site.link(*client).cut();
  ASSERT_TRUE(wait_for(DeviceState::closed));
  disk->recording = true;
  Io lost(Op::write, 0, 512);
  lost.fill(1);
  EXPECT_EQ(doors[0]->run(lost), Errc::device_failed);
  EXPECT_EQ(device->state(), DeviceState::failed);
  EXPECT_EQ(recover(), from_errno(ECONNABORTED)) << "no path";
  EXPECT_EQ(device->state(), DeviceState::failed);
  site.link(*client).heal();
  site.world.run_for(10s);
  EXPECT_EQ(device->state(), DeviceState::failed) << "not by itself";
  EXPECT_FALSE(recover());
  EXPECT_EQ(device->state(), DeviceState::open);
  site.world.run_for(10s);
  EXPECT_TRUE(disk->seen.empty()) << "what was failed is sent after all";
  Io now(Op::write, 512, 512);
  EXPECT_FALSE(doors[0]->run(now.fill(2)));
  EXPECT_FALSE(run(Op::read, 0, 1));
  EXPECT_EQ(lost.completions, 1);
}

TEST_F(DeviceAdminTest, R15_ADeviceFailedUnderLoadIsRecoveredWhenNothingOfItIsLeft) {
  start();
  for (int round = 0; round < 10; ++round) {
    std::vector<std::unique_ptr<Io>> all;
    for (std::size_t i = 0; i < 100; ++i) {
      all.push_back(std::make_unique<Io>(Op::write, i * 512, 512));
      doors[i % 2]->submit(*all.back());
    }
    site.world.run_for(site.world.some(500us));
    disk->hold(true);
    site.world.run_for(site.world.some(500us));
    fail_device();
    std::optional<std::error_code> recovered;
    client->on_home([&] { device->recover([&](std::error_code error) { recovered = error; }); });
    site.world.run_for(2s);
    EXPECT_FALSE(recovered) << "requests are still under way";
    disk->hold(false);
    ASSERT_TRUE(wait_until([&] { return recovered.has_value(); }));
    EXPECT_FALSE(*recovered) << recovered->message();
    for (const auto& io : all) EXPECT_EQ(io->completions, 1);
    EXPECT_FALSE(run(Op::write, 0));
    EXPECT_FALSE(run(Op::write, 512, 1));
  }
}

TEST_F(DeviceAdminTest, ARefusedRecoveryLeavesTheDeviceFailed) {
  start();
  fail_device();
  force_close();
  site.opener.fail_opens(EPERM);
  ASSERT_TRUE(wait_until([&] { return site.list().empty(); }, 1s));
  EXPECT_EQ(recover(), from_errno(EPERM));
  EXPECT_EQ(device->state(), DeviceState::failed);
  Io io(Op::read, 0, 512);
  EXPECT_EQ(doors[0]->run(io), Errc::device_failed);
  site.opener.fail_opens(0);
  EXPECT_FALSE(remap()) << "the kernel's word for it";
  EXPECT_FALSE(doors[0]->run(io));
}

TEST_F(DeviceAdminTest, R10_FlushesAreBelievedInAgainWhenBothEndsWereTold) {
  start();
  disk->fail_next(1, EIO, [](const block::Request& r) { return r.op == Op::flush; });
  EXPECT_FALSE(run(Op::write, 0));
  EXPECT_EQ(run(Op::flush, 0), from_errno(EIO));
  EXPECT_EQ(run(Op::flush, 0, 1), from_errno(EIO));
  EXPECT_FALSE(recover());
  EXPECT_EQ(run(Op::flush, 0), from_errno(EIO)) << "the server does not yet";
  std::optional<std::error_code> forgiven;
  site.exports().forgive("vol", [&](std::error_code error) { forgiven = error; });
  ASSERT_TRUE(wait_until([&] { return forgiven.has_value(); }));
  EXPECT_FALSE(*forgiven);
  EXPECT_EQ(run(Op::flush, 0), from_errno(EIO)) << "this end does not";
  EXPECT_FALSE(recover());
  EXPECT_FALSE(run(Op::flush, 0));
  EXPECT_FALSE(run(Op::flush, 0, 1));
}

TEST_F(DeviceAdminTest, R9_AWriteLostInARebootIsLetGoByRecovering) {
  start();
  EXPECT_FALSE(run(Op::write, 0));
  site.announce(2, 2);
  restart_server();
  ASSERT_TRUE(wait_for(DeviceState::failed));
  EXPECT_EQ(device->last_error(), Errc::writes_lost);
  EXPECT_FALSE(recover());
  EXPECT_FALSE(run(Op::write, 0));
  EXPECT_FALSE(run(Op::flush, 0));
}

TEST_F(DeviceAdminTest, ADeviceMayBeUnmappedWhileItIsLookedAtOrRecovered) {
  start();
  fail_device();
  int told = 0;
  doors.clear();
  client->on_home([&] {
    device->recover([&](std::error_code) { ++told; });
    device->remap([&](std::error_code) { ++told; });
  });
  client->close(*device);
  EXPECT_EQ(told, 2);
  EXPECT_TRUE(wait_until([&] { return site.list().empty(); }, 10s));
  device = &client->must_open("vol");
  client->on_home([&] { device->resize(0, [&](std::error_code, std::uint64_t) { ++told; }); });
  client->close(*device);
  EXPECT_EQ(told, 3);
  EXPECT_TRUE(wait_until([&] { return site.list().empty(); }, 10s)) << "looking opened it anew";
}

}  // namespace
}  // namespace rnbd::client
