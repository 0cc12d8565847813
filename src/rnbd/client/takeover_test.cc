// A client's process is gone and another one takes its devices over (R16).

#include <gtest/gtest.h>

#include "rnbd/testing/site.h"

namespace rnbd::client {
namespace {

using block::Op;
using testing::ClientBox;
using testing::ClientBoxOptions;
using testing::Door;
using testing::Host;
using testing::Io;
using testing::Site;
using namespace std::chrono_literals;  // NOLINT: tests

TEST(ClientTakeover, R16_ADeviceOpensAfterThePredecessorsWritesHaveEnded) {
  for (const auto death : {Host::Death::noticed, Host::Death::silent}) {
    Site site;
    auto& disk = site.add_disk("vol");
    ClientBox old(site.world, site.server);
    auto& old_device = old.must_open("vol");
    auto door = std::make_unique<Door>(site.world, old_device, old.loop());
    Io first(Op::write, 4096, 4096);
    disk.hold(true);
    door->submit(first.fill(1));
    site.world.run_for(1ms);
    ASSERT_EQ(disk.outstanding, 1U);
    old.host().crash(death);
    old.host().restart();

    ClientBox successor(site.world, old.host(), site.server, {.resume = old.identities.back()});
    tl::expected<RemoteDevice*, Failure> device = nullptr;
    bool opened = false;
    successor.on_home([&] {
      successor.client().open_device({.path = "vol"}, [&](auto result) {
        device = result;
        opened = true;
      });
    });
    site.world.run_for(10s);
    EXPECT_FALSE(opened) << "the old write may still take effect";
    disk.hold(false);
    ASSERT_TRUE(site.world.run_until([&] { return opened; }, 60s));
    ASSERT_TRUE(device) << device.error().error.message();
    EXPECT_EQ(disk.outstanding, 0U);
    {
      Door again(site.world, **device, successor.loop());
      Io second(Op::write, 4096, 4096);
      EXPECT_FALSE(again.run(second.fill(2)));
      EXPECT_TRUE(
          std::equal(second.memory.begin(), second.memory.end(), disk.bytes().begin() + 4096));
    }
    EXPECT_EQ(successor.identities.back().uuid, old.identities.back().uuid);

    old.on_home([&] { old.client().fail_device(old_device); });
    ASSERT_TRUE(site.world.run_until([&] { return first.completions == 1; }, 10s));
    door.reset();
  }
}

TEST(ClientTakeover, R16_TheIdentityIsReportedBeforeAnythingIsSent) {
  Site site;
  site.add_disk("vol");
  ClientBox client(site.world, site.server);
  EXPECT_TRUE(client.identities.empty()) << "there is no session yet";
  client.on_home([&] {
    client.client().open_device({.path = "vol"}, [](auto) {});
    EXPECT_EQ(client.identities.size(), 1U);
  });
  ASSERT_TRUE(site.world.run_until([&] { return client.client().devices().size() == 1; }, 10s));
  EXPECT_EQ(client.identities.front().uuid, client.identities.back().uuid);
  EXPECT_EQ(client.identities.back().paths.front().reconnects, 1);
}

}  // namespace
}  // namespace rnbd::client
