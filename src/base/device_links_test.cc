#include "base/device_links.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "base/device_users.h"

namespace rnbd {
namespace {

TEST(DeviceLinks, TakeTheLowestFreeNumberAndOnlyRemoveTheirOwn) {
  char pattern[] = "/tmp/rnbd-links-test-XXXXXX";
  const std::string directory = ::mkdtemp(pattern);
  std::filesystem::create_symlink("null", directory + "/rnbd0");  // somebody else's
  const auto links = make_links({directory, directory}, "loop4094", "client@server", "/dev/ram0");
  ASSERT_TRUE(links);
  EXPECT_EQ(links->number_link, directory + "/rnbd1");
  EXPECT_EQ(links->name_link, directory + "/rnbd/client@server/!dev!ram0");
  EXPECT_EQ(make_links({directory, directory}, "loop4093", "..", "x").error(), from_errno(EINVAL));
  remove_links(*links, "loop4093");
  EXPECT_TRUE(std::filesystem::is_symlink(links->number_link));
  remove_links(*links, "loop4094");
  EXPECT_FALSE(std::filesystem::is_symlink(links->number_link));
  EXPECT_FALSE(std::filesystem::exists(directory + "/rnbd"));
  EXPECT_TRUE(std::filesystem::is_symlink(directory + "/rnbd0"));
  std::filesystem::remove_all(directory);
}

TEST(LinkName, IsOfOneVolumeOnly) {
  EXPECT_EQ(link_name("/dev/ram0"), "!dev!ram0");
  EXPECT_EQ(link_name("a!b"), "a\\x21b");
  EXPECT_EQ(link_name("a\\x21b"), "a\\x5cx21b");
  EXPECT_EQ(link_name("vm-100-disk-0"), "vm-100-disk-0");
  EXPECT_EQ(link_name("vol-part1"), "vol\\x2dpart1");  // not the first partition of vol
  EXPECT_EQ(link_name("vol-part"), "vol-part");
  EXPECT_EQ(link_name("part1"), "part1");
  EXPECT_EQ(link_name("12"), "12");
}

TEST(DeviceLinks, MayBeApartFromTheDevicesAndAskForANumber) {
  char pattern[] = "/tmp/rnbd-links-test-XXXXXX";
  const std::string directory = ::mkdtemp(pattern);
  const auto links = make_links({directory, "/dev"}, "loop4094", "session", "volume", 7);
  ASSERT_TRUE(links);
  EXPECT_EQ(links->number_link, directory + "/rnbd7");
  EXPECT_EQ(std::filesystem::read_symlink(links->number_link), "/dev/loop4094");
  EXPECT_EQ(std::filesystem::read_symlink(links->name_link), "/dev/loop4094");
  remove_dead_links(directory);  // nothing is bound to loop4094
  EXPECT_TRUE(std::filesystem::is_empty(directory));
  std::filesystem::remove_all(directory);
}

TEST(DeviceLinks, OfADiskThatIsGoneAreReplacedWhateverDriverMadeIt) {
  char pattern[] = "/tmp/rnbd-links-test-XXXXXX";
  const std::string directory = ::mkdtemp(pattern);
  ASSERT_TRUE(make_links({directory, "/dev"}, "ublkb4094", "session", "volume"));
  const auto links = make_links({directory, "/dev"}, "loop4094", "session", "volume");
  ASSERT_TRUE(links);
  EXPECT_EQ(std::filesystem::read_symlink(links->number_link), "/dev/loop4094");
  EXPECT_EQ(links->number_link, directory + "/rnbd0");
  std::filesystem::remove_all(directory);
}

TEST(DeviceUsers, AreNoneOfADiskThatIsNotThere) {
  EXPECT_TRUE(device_users("ublkb4094").empty());
  EXPECT_TRUE(wait_for_users("ublkb4094", std::chrono::seconds(10)).empty());
}

}  // namespace
}  // namespace rnbd
