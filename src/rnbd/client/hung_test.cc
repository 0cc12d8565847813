// Requests that lie with a server that lives: their storage does not answer.

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
using namespace std::chrono_literals;  // NOLINT: tests

constexpr Duration kHold = 2s;

// A device that fails after kHold, on storage that can hang, beside another one of its session.
class HungTest : public ::testing::Test {
 protected:
  void start(bool own) {
    if (own) site.announce(1, 1);
    site.server.stop();
    ASSERT_TRUE(wait_until([&] { return site.server.stopped(); }));
    site.server.start();
    disk = &site.add_disk("vol");
    other_disk = &site.add_disk("other");
    client = std::make_unique<ClientBox>(site.world, site.server, ClientBoxOptions{.loops = 2});
    device = &client->must_open("vol", AccessMode::rw, kHold);
    other = &client->must_open("other", AccessMode::rw);
    for (std::size_t i : {0U, 1U}) {
      doors.push_back(std::make_unique<Door>(site.world, *device, client->loop(i)));
      other_doors.push_back(std::make_unique<Door>(site.world, *other, client->loop(i)));
    }
  }
  void TearDown() override {
    doors.clear();
    other_doors.clear();
    disk->hold(false);
    client.reset();
    EXPECT_EQ(disk->overlaps, 0);
    EXPECT_EQ(disk->refused, 0);
  }
  bool wait_until(const std::function<bool()>& done, Duration limit = 60s) {
    return site.world.run_until(done, limit);
  }
  bool wait_for(DeviceState state) {
    return wait_until([&] { return device->state() == state; });
  }
  // Writes to even blocks, reads of odd ones.
  void submit(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      all.push_back(std::make_unique<Io>(i % 2 == 0 ? Op::write : Op::read, i * 512, 512));
      all.back()->fill(i);
      doors[i / 2 % 2]->submit(*all.back());
    }
  }
  bool all_done() const {
    return std::ranges::all_of(all, [](const auto& io) { return io->completions == 1; });
  }
  std::error_code recover() {
    std::optional<std::error_code> result;
    client->on_home([&] { device->recover([&](std::error_code error) { result = error; }); });
    EXPECT_TRUE(wait_until([&] { return result.has_value(); }));
    return *result;
  }
  std::error_code run(Door& door, Op op) { return door.run(Io(op, 4096, 512)); }
  void unmap() {
    doors.clear();
    client->close(*device);
  }

  Site site;
  Disk* disk = nullptr;
  Disk* other_disk = nullptr;
  std::unique_ptr<ClientBox> client;
  RemoteDevice* device = nullptr;
  RemoteDevice* other = nullptr;
  std::vector<std::unique_ptr<Door>> doors, other_doors;
  std::vector<std::unique_ptr<Io>> all;
};

class HungAtAnyServer : public HungTest, public ::testing::WithParamInterface<bool> {};

TEST_P(HungAtAnyServer, R15_TheDeviceFailsInTimeAndOthersOfItsSessionNoticeNothing) {
  start(GetParam());
  disk->hold(true);
  submit(8);
  const TimePoint before = site.world.now();
  ASSERT_TRUE(wait_for(DeviceState::failed));
  ASSERT_TRUE(wait_until([&] { return all_done(); }, 1s));
  EXPECT_GE(site.world.now() - before, kHold);
  EXPECT_LT(site.world.now() - before, kHold * 3 / 2);
  EXPECT_EQ(device->last_error(), Errc::no_answer);
  for (const auto& io : all) EXPECT_EQ(io->result, Errc::device_failed);
  EXPECT_FALSE(run(*other_doors[0], Op::write));
  EXPECT_FALSE(run(*other_doors[1], Op::read));
  EXPECT_EQ(other->state(), DeviceState::open);
  EXPECT_EQ(client->client().session()->paths()[0].reconnects, 0U);
}

TEST_P(HungAtAnyServer, I5_MemoryThatWasHandedBackIsNotTouchedWhenTheAnswersCome) {
  start(GetParam());
  disk->hold(true);
  submit(16);
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  for (const auto& io : all) std::ranges::fill(io->memory, std::byte{0x5a});
  disk->hold(false);
  ASSERT_TRUE(wait_until([&] { return disk->outstanding == 0; }));
  site.world.run_for(5s);
  for (const auto& io : all) {
    EXPECT_EQ(io->completions, 1);
    EXPECT_TRUE(std::ranges::all_of(io->memory, [](std::byte b) { return b == std::byte{0x5a}; }));
  }
  EXPECT_EQ(client->client().session()->paths()[0].reconnects, 0U);
  EXPECT_EQ(client->client().session()->paths()[0].inflight, 0U);
}

TEST_P(HungAtAnyServer, R15_ItIsRecoveredOnlyWhenTheServerHasDoneWithWhatWasFailed) {
  start(GetParam());
  disk->hold(true);
  submit(8);
  ASSERT_TRUE(wait_for(DeviceState::failed));
  EXPECT_EQ(recover(), from_errno(EBUSY));
  EXPECT_EQ(device->state(), DeviceState::failed);
  disk->hold(false);
  EXPECT_FALSE(recover());
  EXPECT_EQ(device->state(), DeviceState::open);
  EXPECT_EQ(disk->outstanding, 0U);
  EXPECT_FALSE(run(*doors[0], Op::write));
  EXPECT_FALSE(run(*doors[1], Op::read));
}

TEST_P(HungAtAnyServer, ItIsUnmappedWhileItsRequestsHangAndMappedAgainWhenTheyAreDone) {
  start(GetParam());
  disk->hold(true);
  submit(8);
  ASSERT_TRUE(wait_for(DeviceState::failed));
  ASSERT_TRUE(wait_until([&] { return all_done(); }, 1s));
  unmap();
  EXPECT_FALSE(run(*other_doors[0], Op::write));
  disk->hold(false);
  site.world.run_for(1s);
  device = &client->must_open("vol");
  doors.push_back(std::make_unique<Door>(site.world, *device, client->loop(1)));
  EXPECT_FALSE(run(*doors[0], Op::write));
}

TEST_P(HungAtAnyServer, ThePathMayBeLostBeforeTheAnswersCome) {
  start(GetParam());
  disk->hold(true);
  submit(8);
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  site.link(*client).reset();
  site.world.run_for(1s);
  disk->hold(false);
  ASSERT_TRUE(wait_until([&] { return disk->outstanding == 0; }));
  EXPECT_FALSE(run(*other_doors[0], Op::write));
  EXPECT_FALSE(recover());
  EXPECT_FALSE(run(*doors[0], Op::write));
}

TEST_P(HungAtAnyServer, TheClientMayEndBeforeTheAnswersCome) {
  start(GetParam());
  disk->hold(true);
  submit(8);
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  doors.clear();
  other_doors.clear();
  client.reset();
  disk->hold(false);
  ASSERT_TRUE(wait_until([&] { return disk->outstanding == 0; }));
}

TEST_P(HungAtAnyServer, RequestsForWhichNoPermitIsLeftAreNotWaitedForLongerEither) {
  start(GetParam());
  disk->hold(true);
  submit(400);  // more than there are permits
  ASSERT_TRUE(wait_until([&] { return all_done(); }, kHold * 2));
  for (const auto& io : all) EXPECT_EQ(io->result, Errc::device_failed);
}

TEST_P(HungAtAnyServer, HoweverManyRequestsHangOthersOfTheSessionGoOn) {
  start(GetParam());
  client->on_home([&] { device->set_hold_timeout({}); });
  disk->hold(true);
  submit(400);
  site.world.run_for(1s);
  Disk& third_disk = site.add_disk("third");
  RemoteDevice& third = client->must_open("third");
  std::vector<std::unique_ptr<Door>> third_doors;
  for (std::size_t i : {0U, 1U})
    third_doors.push_back(std::make_unique<Door>(site.world, third, client->loop(i)));
  const TimePoint before = site.world.now();
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(run(*other_doors[0], Op::write));
    EXPECT_FALSE(run(*other_doors[1], Op::read));
  }
  // Another one hangs with all it can get, and the third has its turn still.
  other_disk->hold(true);
  std::vector<std::unique_ptr<Io>> more;
  for (std::size_t i = 0; i < 400; ++i) {
    more.push_back(std::make_unique<Io>(Op::write, i * 512, 512));
    other_doors[i % 2]->submit(more.back()->fill(i));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(run(*third_doors[0], Op::read));
    EXPECT_FALSE(run(*third_doors[1], Op::write));
  }
  EXPECT_LT(site.world.now() - before, 1s);
  disk->hold(false);
  other_disk->hold(false);
  const auto done = [](const auto& io) { return io->completions == 1; };
  ASSERT_TRUE(wait_until([&] { return all_done() && std::ranges::all_of(more, done); }));
  for (const auto& io : all) EXPECT_FALSE(io->result) << io->result.message();
  for (const auto& io : more) EXPECT_FALSE(io->result) << io->result.message();
  EXPECT_EQ(third_disk.overlaps, 0);
}

TEST_P(HungAtAnyServer, ADeviceThatIsAloneUsesAllPermits) {
  start(GetParam());
  other_doors.clear();
  client->close(*other);
  disk->hold(true);
  submit(400);
  site.world.run_for(1s);
  rtrs::client::Session& session = *client->client().session();
  EXPECT_EQ(disk->outstanding, session.lane(0).permits() + session.lane(1).permits());
  disk->hold(false);
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
}

INSTANTIATE_TEST_SUITE_P(OfOursAndLikeTheKernels, HungAtAnyServer, ::testing::Bool(),
                         [](const auto& run) { return run.param ? "Ours" : "LikeTheKernels"; });

TEST_F(HungTest, ADeviceThatHoldsForEverWaits) {
  start(true);
  client->on_home([&] { device->set_hold_timeout({}); });
  disk->hold(true);
  submit(8);
  site.world.run_for(30s);
  EXPECT_EQ(device->state(), DeviceState::open);
  disk->hold(false);
  ASSERT_TRUE(wait_until([&] { return all_done(); }));
  for (const auto& io : all) EXPECT_FALSE(io->result);
}

TEST_F(HungTest, ADeviceIsFailedByHandWhileItsRequestsHang) {
  start(true);
  client->on_home([&] { device->set_hold_timeout({}); });
  disk->hold(true);
  submit(8);
  site.world.run_for(1s);
  client->on_home([&] { client->client().fail_device(*device); });
  ASSERT_TRUE(wait_until([&] { return all_done(); }, 100ms));
  for (const auto& io : all) EXPECT_EQ(io->result, Errc::device_failed);
}

TEST_F(HungTest, StorageThatAnswersInTimeIsWaitedFor) {
  start(true);
  for (int i = 0; i < 20; ++i) {
    disk->hold(true);
    submit(8);
    site.world.run_for(kHold * 9 / 10);
    disk->hold(false);
    ASSERT_TRUE(wait_until([&] { return all_done(); }));
    for (const auto& io : all) EXPECT_FALSE(io->result) << io->result.message();
    all.clear();
  }
  EXPECT_EQ(device->state(), DeviceState::open);
}

}  // namespace
}  // namespace rnbd::client
