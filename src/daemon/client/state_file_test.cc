#include "daemon/client/state_file.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace rnbd::daemon {
namespace {

SavedState example() {
  SavedState state;
  SavedSession session{.name = "web1@st",
                       .poll_queues = 2,
                       .policy = rtrs::PathPolicy::min_latency,
                       .max_reconnect_attempts = 7};
  session.identity.uuid.fill(0xab);
  rtrs::client::PathIdentity path;
  path.address = *fabric::PathAddress::parse("ip:10.0.0.9,tcp:10.0.0.1", 4321);
  path.uuid.fill(0x01);
  path.reconnects = 7;
  session.identity.paths.push_back(path);
  session.names.push_back(
      {.asked = *parse_path_spec("ip:10.0.0.9,host:st.example", 4321), .now = path.address});
  state.sessions.push_back(session);
  SavedMapping mapping{
      .number = 3, .ublk_tag = 0xfedcba9876543210, .hold = std::chrono::milliseconds(1500)};
  mapping.request = *parse_map_line(
      "sessname=web1@st path=ip:10.0.0.9,tcp:10.0.0.1 device_path=vol0 access_mode=ro", 8);
  mapping.request.frontend = "ublk";
  state.mappings.push_back(mapping);
  return state;
}

class StateFileTest : public testing::Test {
 protected:
  ~StateFileTest() override { std::filesystem::remove_all(directory_); }
  static std::string make_directory() {
    std::string name = testing::TempDir() + "rnbd-state-XXXXXX";
    return ::mkdtemp(name.data());
  }
  std::string directory_ = make_directory();
  StateFile file_{directory_ + "/client-state.json"};
};

void expect_example(const SavedState& state) {
  const SavedState want = example();
  ASSERT_EQ(state.sessions.size(), 1U);
  EXPECT_EQ(state.sessions[0].name, "web1@st");
  EXPECT_EQ(state.sessions[0].poll_queues, 2);
  EXPECT_EQ(state.sessions[0].policy, want.sessions[0].policy);
  EXPECT_EQ(state.sessions[0].max_reconnect_attempts, 7);
  EXPECT_EQ(state.sessions[0].identity, want.sessions[0].identity);
  ASSERT_EQ(state.sessions[0].names.size(), 1U);
  EXPECT_EQ(state.sessions[0].names[0].asked, want.sessions[0].names[0].asked);
  EXPECT_EQ(state.sessions[0].names[0].now.to_spec(), "ip:10.0.0.9,tcp:10.0.0.1");
  EXPECT_EQ(state.sessions[0].identity.paths[0].address.destination.transport(),
            fabric::Transport::tcp);
  ASSERT_EQ(state.mappings.size(), 1U);
  EXPECT_EQ(state.mappings[0].request, want.mappings[0].request);
  EXPECT_EQ(state.mappings[0].number, 3U);
  EXPECT_EQ(state.mappings[0].ublk_tag, 0xfedcba9876543210U);
}

TEST_F(StateFileTest, WhatIsSavedIsLoaded) {
  ASSERT_FALSE(file_.save(example()));
  ASSERT_FALSE(file_.save(example()));  // over the old one
  auto loaded = file_.load();
  ASSERT_TRUE(loaded) << loaded.error().text();
  expect_example(*loaded);
}

TEST_F(StateFileTest, NoFileIsAnEmptyState) {
  auto loaded = file_.load();
  ASSERT_TRUE(loaded);
  EXPECT_TRUE(loaded->sessions.empty());
  EXPECT_TRUE(loaded->mappings.empty());
}

TEST_F(StateFileTest, ADamagedFileIsSetAsideAndNamed) {
  std::ofstream(file_.path()) << encode_state(example()).substr(0, 200);
  auto loaded = file_.load();
  ASSERT_FALSE(loaded);
  EXPECT_NE(loaded.error().text().find(file_.path()), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(file_.path() + ".bad"));
  EXPECT_TRUE(file_.load());
}

TEST_F(StateFileTest, WhereNothingCanBeWrittenSaveSaysSo) {
  EXPECT_EQ(StateFile(directory_ + "/none/state").save(example()), from_errno(ENOENT));
}

class DamagedState : public testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(DamagedState, IsRefused) {
  std::string text = encode_state(example());
  const auto [old_text, new_text] = GetParam();
  const std::size_t at = text.find(old_text);
  ASSERT_NE(at, std::string::npos) << text;
  text.replace(at, std::string(old_text).size(), new_text);
  EXPECT_FALSE(parse_state(text, 8)) << text;
}

INSTANTIATE_TEST_SUITE_P(Table, DamagedState,
                         testing::Values(std::pair{"\"version\": 1", "\"version\": 2"},
                                         std::pair{"abababab", "abababaz"},
                                         std::pair{"01010101", "0101"},
                                         std::pair{"tcp:10.0.0.1", "tcp:10.0.0.256"},
                                         std::pair{"4321", "70000"},
                                         std::pair{"device_path=vol0", "device_path="},
                                         std::pair{"\"number\": 3", "\"number\": \"3\""},
                                         std::pair{"\"ublk\"", "\"floppy\""}));

}  // namespace
}  // namespace rnbd::daemon
