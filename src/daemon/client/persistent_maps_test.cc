#include "daemon/client/persistent_maps.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace rnbd::daemon {
namespace {

using ::testing::HasSubstr;
using namespace std::chrono_literals;

class PersistentMapsTest : public ::testing::Test {
 protected:
  PersistentMapsTest() {
    std::string name = std::filesystem::temp_directory_path() / "rnbd-maps-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    file_ = directory_ + "/client-maps.json";
  }
  ~PersistentMapsTest() override { std::filesystem::remove_all(directory_); }

  static PersistentMap map(const std::string& volume) {
    PersistentMap map;
    map.request = {.session = "a@b",
                   .paths = {{.destination = "ip:10.0.0.1"}, {.destination = "host:db", .port = 5}},
                   .device_path = volume,
                   .access_mode = "ro",
                   .frontend = "loop"};
    map.number = 3;
    map.hold = 30s;
    map.policy = rtrs::PathPolicy::min_latency;
    map.max_reconnect_attempts = -1;
    return map;
  }
  std::string text() const {
    std::ostringstream text;
    text << std::ifstream(file_).rdbuf();
    return text.str();
  }
  void write(const std::string& text) const { std::ofstream(file_) << text; }

  std::string directory_, file_;
};

TEST_F(PersistentMapsTest, WhatWasRememberedIsThereAgain) {
  std::optional<PersistentMaps> maps(file_);
  ASSERT_TRUE(maps->load());
  EXPECT_TRUE(maps->maps().empty());
  maps->remember(map("/x"));
  PersistentMap plain;
  plain.request = {.session = "s", .paths = {{.destination = "unix:/run/x y"}}, .device_path = "ü"};
  maps->remember(plain);
  maps.reset();  // on disk
  PersistentMaps again(file_);
  ASSERT_TRUE(again.load());
  EXPECT_EQ(again.maps(), (std::vector<PersistentMap>{map("/x"), plain}));
}

TEST_F(PersistentMapsTest, AVolumeIsRememberedOnceAndAsItWasLast) {
  std::optional<PersistentMaps> maps(file_);
  maps->remember(map("/x"));
  PersistentMap changed = map("/x");
  changed.hold = std::nullopt;
  maps->remember(changed);
  maps.reset();  // on disk
  PersistentMaps again(file_);
  ASSERT_TRUE(again.load());
  EXPECT_EQ(again.maps(), std::vector<PersistentMap>{changed});
}

TEST_F(PersistentMapsTest, WhatIsForgottenStaysAway) {
  std::optional<PersistentMaps> maps(file_);
  maps->remember(map("/x"));
  maps->remember(map("/y"));
  maps->forget("a@b", "/x");
  maps->forget("other", "/y");
  maps.reset();  // on disk
  PersistentMaps again(file_);
  ASSERT_TRUE(again.load());
  EXPECT_EQ(again.maps(), std::vector<PersistentMap>{map("/y")});
}

TEST_F(PersistentMapsTest, ADamagedFileIsToldAndSetAside) {
  PersistentMaps(file_).remember(map("/x"));
  std::string damaged = text();
  damaged[damaged.find("10.0.0.1") + 7] = '2';  // still JSON, still a path
  write(damaged);
  PersistentMaps again(file_);
  const auto loaded = again.load();
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().text(), HasSubstr("its checksum is wrong"));
  EXPECT_THAT(loaded.error().text(), HasSubstr("kept as " + file_ + ".bad"));
  EXPECT_TRUE(again.maps().empty());
  EXPECT_FALSE(std::filesystem::exists(file_));
  EXPECT_TRUE(std::filesystem::exists(file_ + ".bad"));
}

TEST_F(PersistentMapsTest, EveryCutAndEveryFlippedByteIsNoticed) {
  const std::string whole = encode_maps({map("/x")});
  for (std::size_t i = 0; i + 2 < whole.size(); ++i)
    EXPECT_FALSE(parse_maps(whole.substr(0, i))) << i;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string other = whole;
    other[i] = static_cast<char>(other[i] ^ 1);
    const auto parsed = parse_maps(other);
    if (parsed) {
      EXPECT_EQ(*parsed, std::vector<PersistentMap>{map("/x")}) << i;  // white space
    }
  }
}

TEST_F(PersistentMapsTest, ALaterVersionIsNotGuessedAt) {
  const auto parsed = parse_maps(R"({"version": 2, "checksum": "", "maps": []})");
  ASSERT_FALSE(parsed);
  EXPECT_THAT(parsed.error().what, HasSubstr("its version is 2, not 1"));
  EXPECT_FALSE(parse_maps("{}"));
  EXPECT_FALSE(parse_maps("[]"));
  EXPECT_FALSE(parse_maps(""));
}

TEST_F(PersistentMapsTest, WhereNothingCanBeWrittenItGoesOn) {
  PersistentMaps maps(directory_ + "/missing/file");
  maps.remember(map("/x"));
  EXPECT_EQ(maps.maps().size(), 1U);
}

}  // namespace
}  // namespace rnbd::daemon
