#include "daemon/config/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "daemon/config/schema.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

Config parsed(std::string_view text) {
  auto config = parse_config(text, "test.toml");
  EXPECT_TRUE(config) << (config ? "" : config.error().text());
  return config.value_or(Config{});
}

TEST(Config, WhatIsPrintedParsesBackToItself) {
  for (std::string_view section : {"", "server", "client"}) {
    std::string text = print_config(Config{}, section);
    EXPECT_EQ(print_config(parsed(text), section), text);
  }
}

TEST(Config, EveryValueSurvivesPrintingWhateverItIs) {
  Config config;
  for (Section& section : sections_of(config)) {
    for (Key& key : section.keys) {
      if (auto* text = std::get_if<Text>(&key.setting)) *text->value = "a \"quoted\\\" \x01 näme";
      if (auto* flag = std::get_if<Flag>(&key.setting)) *flag->value = !*flag->value;
      if (auto* choice = std::get_if<Choice>(&key.setting)) *choice->value = choice->allowed.back();
      if (auto* number = std::get_if<Number>(&key.setting)) *number->value = number->most;
      if (auto* number = std::get_if<SignedNumber>(&key.setting)) *number->value = number->least;
      if (auto* size = std::get_if<Size>(&key.setting)) *size->value = size->most;
      if (auto* time = std::get_if<Time>(&key.setting)) *time->value = time->most;
      if (auto* list = std::get_if<TextList>(&key.setting)) *list->value = {"a", "b\"c"};
      if (auto* list = std::get_if<NumberList>(&key.setting)) *list->value = {0, list->most};
    }
  }
  config.exports = {
      {.name = "f", .backend = "file", .file = "/x y", .read_only = true, .block_size = 4096},
      {.name = "m", .backend = "memory", .file = "", .size = 1000}};
  std::string text = print_config(config, "");
  EXPECT_EQ(print_config(parsed(text), ""), text);
  EXPECT_NE(text, print_config(Config{}, ""));
}

TEST(Config, EveryKeyIsPrintedWithItsMeaning) {
  Config config;
  std::string text = print_config(config, "");
  for (const Section& section : sections_of(config))
    for (const Key& key : section.keys) {
      EXPECT_NE(text.find("\n" + std::string(key.name) + " = "), std::string::npos) << key.name;
      EXPECT_NE(text.find("# " + std::string(key.meaning)), std::string::npos) << key.name;
    }
}

TEST(Config, TakesSizesAndTimesAsPeopleWriteThem) {
  Config config = parsed(
      "[server]\nmax_chunk_size = \"64K\"\nhandshake_timeout = \"250ms\"\nheartbeat_interval = 7\n"
      "[client]\nmax_reconnect_attempts = -1\ncpus = [0, 2]\n"
      "[[export]]\nname = \"a\"\nbackend = \"null\"\nsize = \"1T\"\n");
  EXPECT_EQ(config.server.max_chunk_size, 65536U);
  EXPECT_EQ(config.server.handshake_timeout, 250ms);
  EXPECT_EQ(config.server.network.heartbeat_interval, 7s);
  EXPECT_EQ(config.client.network.heartbeat_interval, 5s);
  EXPECT_EQ(config.client.loops.cpus, (std::vector<std::uint64_t>{0, 2}));
  EXPECT_EQ(config.exports.at(0).size, 1ULL << 40);
}

struct Bad {
  const char* text;
  const char* where;
  const char* word;
};
class ConfigRefuses : public testing::TestWithParam<Bad> {};

TEST_P(ConfigRefuses, NamingFileLineKeyAndWhatIsAllowed) {
  auto config = parse_config(GetParam().text, "test.toml");
  ASSERT_FALSE(config) << GetParam().text;
  EXPECT_EQ(config.error().code, ProblemCode::config);
  std::string words = config.error().text();
  EXPECT_TRUE(words.starts_with(GetParam().where)) << words;
  EXPECT_NE(words.find(GetParam().word), std::string::npos) << words;
}

INSTANTIATE_TEST_SUITE_P(
    Table, ConfigRefuses,
    testing::Values(
        Bad{"[server]\nprot_nr = 1\n", "test.toml:2:", "did you mean 'port_nr'"},
        Bad{"\n[sever]\n", "test.toml:2:", "did you mean 'server'"},
        Bad{"x = 1\n", "test.toml:1:", "one of: "}, Bad{"server = 1\n", "test.toml:1:", "[server]"},
        Bad{"[server\n", "test.toml:1:", "TOML"},
        Bad{"[server]\nport_nr = 65536\n", "test.toml:2:", "0 to 65535"},
        Bad{"[server]\nport_nr = -1\n", "test.toml:2:", "0 to 65535"},
        Bad{"[server]\nport_nr = \"1\"\n", "test.toml:2:", "whole number"},
        Bad{"[server]\nport_nr = 1.5\n", "test.toml:2:", "whole number"},
        Bad{"[server]\nfollow_symlinks = 1\n", "test.toml:2:", "true or false"},
        Bad{"[server]\ndev_search_path = 1\n", "test.toml:2:", "string"},
        Bad{"[server]\ncrc = \"yes\"\n", "test.toml:2:", "auto, on, off, strict"},
        Bad{"[server]\ncrc = true\n", "test.toml:2:", "auto, on, off"},
        Bad{"[server]\nmax_chunk_size = \"100K\"\n", "test.toml:2:", "power of two"},
        Bad{"[server]\nmax_chunk_size = 4096\n", "test.toml:2:", "8K to 1M"},
        Bad{"[server]\nmax_chunk_size = \"x\"\n", "test.toml:2:", "128K"},
        Bad{"[server]\nblock_size = 256\n", "test.toml:2:", "512"},
        Bad{"[server]\nheartbeat_interval = \"5 days\"\n", "test.toml:2:", "100ms"},
        Bad{"[server]\nheartbeat_interval = \"1ms\"\n", "test.toml:2:", "10ms to"},
        Bad{"[server]\nlisten = \"ip:::\"\n", "test.toml:2:", "list"},
        Bad{"[server]\nlisten = [1]\n", "test.toml:2:", "list"},
        Bad{"[server]\ncpus = [-1]\n", "test.toml:2:", "4095"},
        Bad{"[server]\ncpus = 1\n", "test.toml:2:", "list"},
        Bad{"[client]\nmax_reconnect_attempts = -2\n", "test.toml:2:", "-1 to 9999"},
        Bad{"[export]\nname = \"a\"\n", "test.toml:1:", "[[export]]"},
        Bad{"export = [1]\n", "test.toml:1:", "[[export]]"},
        Bad{"[[export]]\nfile = \"/x\"\n", "test.toml:1:", "no name"},
        Bad{"[[export]]\nname = \"a\"\n", "test.toml:1:", "no file"},
        Bad{"[[export]]\nname = \"a\"\nfile = \"x\"\n", "test.toml:1:", "absolute"},
        Bad{"[[export]]\nname = \"a\"\nbackend = \"null\"\n", "test.toml:1:", "no size"},
        Bad{"[[export]]\nname = \"a\"\nfile = \"/x\"\nsize = 5\n", "test.toml:1:", "size"},
        Bad{"[[export]]\nname = \"a\"\nbackend = \"memory\"\nsize = 5\nfile = \"/x\"\n",
            "test.toml:1:", "backend"},
        Bad{"[[export]]\nname = \"a/../b\"\nfile = \"/x\"\n", "test.toml:1:", "'..'"},
        Bad{"[[export]]\nname = \"a\"\nfile = \"/x\"\n[[export]]\nname = \"a\"\nfile = \"/y\"\n",
            "test.toml:4:", "twice"},
        Bad{"[[export]]\nname = \"a\"\nfle = \"/x\"\n", "test.toml:3:", "did you mean 'file'"}));

class ConfigFiles : public testing::Test {
 protected:
  ConfigFiles() {
    std::string name = testing::TempDir() + "rnbd-config-XXXXXX";
    directory_ = mkdtemp(name.data());
    std::filesystem::create_directory(directory_ + "/rnbd.d");
  }
  ~ConfigFiles() override { std::filesystem::remove_all(directory_); }
  void write(const std::string& name, const std::string& text) {
    std::ofstream(directory_ + "/" + name) << text;
  }
  std::string directory_;
};

TEST_F(ConfigFiles, DropInsCountInOrderOfTheirNamesAndExportsAddUp) {
  write("rnbd.toml",
        "[server]\nport_nr = 1\nsess_queue_depth = 64\n[[export]]\nname = \"a\"\nfile = \"/a\"\n");
  write("rnbd.d/20.toml", "[server]\nport_nr = 3\n[[export]]\nname = \"b\"\nfile = \"/b\"\n");
  write("rnbd.d/10.toml", "[server]\nport_nr = 2\n");
  write("rnbd.d/30.toml.bak", "rubbish");
  auto config = load_config(directory_ + "/rnbd.toml", true);
  ASSERT_TRUE(config) << config.error().text();
  EXPECT_EQ(config->server.port_nr, 3U);
  EXPECT_EQ(config->server.sess_queue_depth, 64U);
  EXPECT_EQ(config->exports.size(), 2U);
}

TEST_F(ConfigFiles, AMissingFileIsAnErrorOnlyWhenItWasNamed) {
  EXPECT_TRUE(load_config(directory_ + "/none.toml", false));
  auto named = load_config(directory_ + "/none.toml", true);
  ASSERT_FALSE(named);
  EXPECT_EQ(named.error().code, ProblemCode::config);
}

}  // namespace
}  // namespace rnbd::daemon
