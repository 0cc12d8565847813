#include "rnbd/client/client_impl.h"

#include <gtest/gtest.h>

#include "rnbd/testing/scripted_server.h"

namespace rnbd::client {
namespace {

using block::Op;
using testing::ClientBox;
using testing::Door;
using testing::Io;
using testing::Script;
using testing::ScriptedHandler;
using testing::ServerBox;
using testing::Site;
using testing::World;
using namespace std::chrono_literals;  // NOLINT: tests

TEST(NormalPath, IsWhatTwoSpellingsHaveInCommon) {
  EXPECT_EQ(normal_path("/dev/ram0"), "dev/ram0");
  EXPECT_EQ(normal_path("//dev//./ram0/"), "dev/ram0");
  EXPECT_EQ(normal_path("./a/b"), "a/b");
  EXPECT_EQ(normal_path("a..b/.c"), "a..b/.c");
  EXPECT_EQ(normal_path("/"), "");
  EXPECT_EQ(normal_path(""), "");
}

TEST(Client, OpensSeveralDevicesAtOnceOverOneSession) {
  Site site;
  for (const char* name : {"a", "b", "c"}) site.add_disk(name);
  ClientBox client(site.world, site.server);
  int opened = 0;
  client.on_home([&] {
    for (const char* name : {"a", "b", "c"}) {
      client.client().open_device({.path = name}, [&](auto result) { opened += result ? 1 : 0; });
    }
  });
  ASSERT_TRUE(site.world.run_until([&] { return opened == 3; }, 10s));
  EXPECT_EQ(client.client().devices().size(), 3U);
  EXPECT_EQ(site.list().size(), 3U);
}

TEST(ClientCases, C61_OneVolumeIsOpenedOnceHoweverItIsSpelt) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  client.must_open("/vol");
  for (const char* path : {"/vol", "//vol", "/./vol"}) {
    const auto again = client.open({.path = path});
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().error, from_errno(EEXIST));
  }
}

TEST(Client, RefusesNamesThatFitNoMessage) {
  Site site;
  ClientBox client(site.world, site.server);
  EXPECT_EQ(client.open({.path = ""}).error().error, from_errno(EINVAL));
  EXPECT_EQ(client.open({.path = std::string("a\0b", 3)}).error().error, from_errno(EINVAL));
  EXPECT_EQ(client.open({.path = std::string(255, 'x')}).error().error, Errc::too_long);
  const auto longest = client.open({.path = std::string(254, 'x')});
  EXPECT_EQ(longest.error().error, from_errno(ENOENT)) << "the server's word";
}

TEST(Client, SaysThatTheServerRefusedToOpen) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  const auto missing = client.open({.path = "other"});
  EXPECT_EQ(missing.error().stage, Stage::open);
  EXPECT_EQ(missing.error().error, from_errno(ENOENT));
  EXPECT_TRUE(client.client().devices().empty());
  EXPECT_TRUE(client.open({.path = "vol"})) << "the session is still good";
}

TEST(Client, SaysThatNobodyAnswersAndTriesAnewWhenAskedAnew) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  site.server.stop();
  ASSERT_TRUE(site.world.run_until([&] { return site.server.stopped(); }, 10s));
  const auto refused = client.open({.path = "vol"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().stage, Stage::connect);
  site.server.start();
  EXPECT_TRUE(client.open({.path = "vol"}));
}

TEST(Client, I4_TwoClientsShareAVolumeByItsRules) {
  Site site;
  site.add_disk("vol");
  ClientBox one(site.world, site.server, {.name = "one"});
  ClientBox two(site.world, site.server, {.name = "two"});
  RemoteDevice& writer = one.must_open("vol");
  EXPECT_EQ(two.open({.path = "vol"}).error().error, from_errno(EPERM));
  RemoteDevice& reader = two.must_open("vol", AccessMode::ro);
  two.close(reader);
  two.must_open("vol", AccessMode::migration);
  one.close(writer);
  EXPECT_EQ(one.open({.path = "vol"}).error().error, from_errno(EPERM));
}

TEST(Client, ClosingADeviceClosesItOnTheServer) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  for (int i = 0; i < 5; ++i) {
    RemoteDevice& device = client.must_open("vol");
    EXPECT_EQ(site.list().size(), 1U);
    client.close(device);
    EXPECT_TRUE(site.list().empty());
    EXPECT_EQ(site.opener.open_devices, 0);
  }
}

TEST(Client, ClosingADeviceIsBoundedWhenTheServerIsSilent) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  RemoteDevice& device = client.must_open("vol");
  site.link(client).black_hole();
  const Duration before = site.world.elapsed();
  client.close(device);
  EXPECT_LE(site.world.elapsed() - before, 6s);
  site.link(client).heal();
}

TEST(Client, HasQueuesOnItsOwnLoopsOnly) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  RemoteDevice& device = client.must_open("vol");
  testing::SimLoop& stranger = site.world.make_loop();
  EXPECT_EQ(device.open_queue(stranger).error(), from_errno(EINVAL));
}

class HostileServerTest : public ::testing::Test {
 protected:
  HostileServerTest()
      : server(world, 1, testing::small_server(),
               [this](const auto&) { return std::make_unique<ScriptedHandler>(script); }),
        client(world, server) {}
  Failure failure() {
    const auto result = client.open({.path = "vol"});
    EXPECT_FALSE(result);
    return result ? Failure{} : result.error();
  }
  World world;
  Script script;
  ServerBox server;
  ClientBox client;
};

TEST_F(HostileServerTest, AnyDeviceIdIsAsGoodAsAnother) {
  RemoteDevice& device = client.must_open("vol");
  Door door(world, device, client.loop());
  EXPECT_FALSE(door.run(Io(Op::read, 512, 1024)));
  ASSERT_EQ(script.ios.size(), 1U);
  EXPECT_EQ(script.ios[0].device_id, 0xabcd0001);
  EXPECT_EQ(script.ios[0].sector, 1U);
  EXPECT_EQ(script.ios[0].flags, wire::kIoSync);
}

TEST_F(HostileServerTest, S16_ImpossibleGeometriesAreRefusedAndClosed) {
  const std::function<void(wire::layout::OpenResponse&)> cases[] = {
      [](auto& r) { r.logical_block_size = 0; },
      [](auto& r) { r.logical_block_size = 256; },
      [](auto& r) { r.logical_block_size = 513; },
      [](auto& r) { r.logical_block_size = 16384; },  // a block does not fit a message
      [](auto& r) { r.nsectors = ~std::uint64_t{0}; },
      [](auto& r) { r.nsectors = std::uint64_t{1} << 54; },
      [](auto& r) {
        r.logical_block_size = 4096;
        r.nsectors = 9;
      },
  };
  for (const auto& spoil : cases) {
    Script good;
    script.open = good.open;
    spoil(script.open);
    EXPECT_EQ(failure().error, Errc::bad_geometry) << &spoil - cases;
  }
  script.open.header.type = 9;
  EXPECT_EQ(failure().error, Errc::protocol_violation);
}

TEST_F(HostileServerTest, SaysThatTheGreetingFailed) {
  script.session_info_errno = EINVAL;
  EXPECT_EQ(failure().stage, Stage::handshake);
}

TEST_F(HostileServerTest, AnOpenThatIsNeverAnsweredFailsAndALateAnswerIsGivenBack) {
  script.answer_open = false;
  const Failure timeout = failure();
  EXPECT_EQ(timeout.error, from_errno(ETIMEDOUT));
  EXPECT_LE(world.elapsed(), 40s);
  ASSERT_EQ(script.unanswered.size(), 1U);
  script.answer_open_of(*script.unanswered[0]);
  ASSERT_TRUE(world.run_until([&] { return !script.closed.empty(); }, 10s));
  EXPECT_EQ(script.closed[0], 0xabcd0001);
}

TEST_F(HostileServerTest, ErrorsWithoutANameAreIoErrors) {
  RemoteDevice& device = client.must_open("vol");
  Door door(world, device, client.loop());
  script.io_errno = 511;
  EXPECT_TRUE(door.run(Io(Op::read, 0, 512)));
  script.io_errno = 0;
  EXPECT_FALSE(door.run(Io(Op::read, 0, 512)));
}

}  // namespace
}  // namespace rnbd::client
