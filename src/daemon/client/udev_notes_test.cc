#include "daemon/client/udev_notes.h"

#include <gmock/gmock.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <vector>

namespace rnbd::daemon {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class UdevNotesTest : public ::testing::Test {
 protected:
  UdevNotesTest() {
    std::string name = std::filesystem::temp_directory_path() / "rnbd-udev-XXXXXX";
    root_ = ::mkdtemp(name.data());
    std::filesystem::create_directories(root_ + "/sys/class/block/ublkb0/ublkb0p1");
    for (const char* file : {"uevent", "ublkb0p1/uevent", "ublkb0p1/partition"})
      std::ofstream(root_ + "/sys/class/block/ublkb0/" + file) << "";
  }
  ~UdevNotesTest() override { std::filesystem::remove_all(root_); }
  std::string read(const std::string& file) const {
    std::ostringstream text;
    text << std::ifstream(root_ + "/" + file).rdbuf();
    return text.str();
  }
  std::string root_;
};

TEST_F(UdevNotesTest, TellsOfTheDiskAndItsPartitionsAndForgets) {
  const UdevNotes notes(root_ + "/notes", root_ + "/sys");
  notes.tell({"ublkb0", "rnbd0", "a@b", "vol"});
  EXPECT_THAT(read("notes/ublkb0"), HasSubstr("RNBD_DEVICE=rnbd0\n"));
  EXPECT_EQ(read("sys/class/block/ublkb0/uevent"), "change");
  EXPECT_EQ(read("sys/class/block/ublkb0/ublkb0p1/uevent"), "change");
  notes.forget("ublkb0");
  EXPECT_FALSE(std::filesystem::exists(root_ + "/notes/ublkb0"));
}

TEST_F(UdevNotesTest, WhatIsGoneIsCleanedUp) {
  const UdevNotes notes(root_ + "/notes", root_ + "/sys");
  notes.tell({"ublkb0", "rnbd0", "a@b", "vol"});
  notes.tell({"ublkb1", "rnbd1", "a@b", "vol2"});
  notes.clean_up();
  EXPECT_TRUE(std::filesystem::exists(root_ + "/notes/ublkb0"));
  EXPECT_FALSE(std::filesystem::exists(root_ + "/notes/ublkb1"));
}

TEST(UdevNote, NoNameEndsALineOrADirectory) {
  const std::string note = udev_note({"ublkb0", "rnbd0", "a b", "/../x\nRNBD_DEVICE=sda"});
  EXPECT_THAT(note, Not(HasSubstr("\nRNBD_DEVICE=sda")));
  EXPECT_THAT(note, HasSubstr("RNBD_LINK=a\\x20b/\\x2f..\\x2fx\\x0aRNBD_DEVICE=sda\n"));
  EXPECT_THAT(udev_note({"ublkb0", "rnbd0", "..", ".."}),
              HasSubstr("RNBD_LINK=\\x2e\\x2e/\\x2e\\x2e\n"));
}

std::string line_of(const char* key, const std::string& session, const std::string& volume) {
  const std::string note = udev_note({"ublkb0", "rnbd0", session, volume});
  const std::size_t at = note.find(key);
  return note.substr(at, note.find('\n', at) - at);
}

TEST(UdevNote, DifferentVolumesHaveDifferentNames) {
  const std::vector<std::pair<std::string, std::string>> names{
      {"s", "a/b"},  {"s", "a_b"},      {"s", "a!b"},        {"s", "a b"},       {"s", "a\\x2fb"},
      {"s-a", "b"},  {"s", "a-b"},      {"s", "vol"},        {"s", "vol-part1"}, {"s", "\xc3\xa4"},
      {"s", "\xc3"}, {"s", "vol-part"}, {"s", "vol-part01"}, {"s-vol", "part1"}};
  std::set<std::string> links, ids;
  for (const auto& [session, volume] : names) {
    for (const char* part : {"", "-part1"}) {
      EXPECT_TRUE(links.insert(line_of("RNBD_LINK=", session, volume) + part).second) << volume;
      EXPECT_TRUE(ids.insert(line_of("RNBD_ID=", session, volume) + part).second) << volume;
    }
  }
}

TEST(UdevNote, CommonNamesStayAsTheyAre) {
  EXPECT_EQ(line_of("RNBD_LINK=", "web1@10-0-0-1", "vm-100-disk-0"),
            "RNBD_LINK=web1@10-0-0-1/vm-100-disk-0");
  EXPECT_EQ(line_of("RNBD_ID=", "web1@10-0-0-1", "/db"), "RNBD_ID=web1@10-0-0-1-db");
}

TEST(UdevNote, WithoutADirectoryNothingIsTold) {
  const UdevNotes notes("");
  notes.tell({"ublkb0", "rnbd0", "a", "b"});
  notes.forget("ublkb0");
}

}  // namespace
}  // namespace rnbd::daemon
