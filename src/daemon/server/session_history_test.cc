#include "daemon/server/session_history.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "daemon/whole_file.h"

namespace rnbd::daemon {
namespace {

Uuid uuid_of(std::uint32_t number) {
  Uuid uuid{};
  for (std::size_t i = 0; i < 4; ++i) uuid[i] = static_cast<std::uint8_t>(number >> (8 * i));
  uuid[15] = 1;
  return uuid;
}

class SessionHistoryTest : public ::testing::Test {
 protected:
  SessionHistoryTest() {
    std::string pattern = std::filesystem::temp_directory_path() / "rnbd-history-XXXXXX";
    directory = ::mkdtemp(pattern.data());
    path = directory + "/server-sessions.json";
  }
  ~SessionHistoryTest() override { std::filesystem::remove_all(directory); }

  std::string directory;
  std::string path;
  const Uuid boot = uuid_of(1000);
  const Uuid next_boot = uuid_of(1001);
};

TEST_F(SessionHistoryTest, R9_BeforeAnyRebootEverySessionPassesAsKnown) {
  SessionHistoryFile history(path, boot);
  EXPECT_TRUE(history.known(uuid_of(1)));
}

TEST_F(SessionHistoryTest, R9_ARestartedServerKnowsTheSessionsOfItsPredecessor) {
  { SessionHistoryFile(path, boot).add(uuid_of(1)); }
  { SessionHistoryFile(path, next_boot).add(uuid_of(2)); }
  SessionHistoryFile history(path, next_boot);
  EXPECT_TRUE(history.known(uuid_of(2)));
  EXPECT_FALSE(history.known(uuid_of(1)));
  EXPECT_FALSE(history.known(uuid_of(3)));
}

TEST_F(SessionHistoryTest, R9_ARebootMakesEveryEarlierSessionUnknown) {
  { SessionHistoryFile(path, boot).add(uuid_of(1)); }
  SessionHistoryFile history(path, next_boot);
  EXPECT_FALSE(history.known(uuid_of(1)));
  history.add(uuid_of(1));
  EXPECT_TRUE(history.known(uuid_of(1)));
}

TEST_F(SessionHistoryTest, OnlyTheNewestAreKept) {
  auto records = records_of_boot(next_boot, {.boot = boot});
  EXPECT_TRUE(records.rebooted);
  for (std::uint32_t i = 0; i < SessionRecords::kMax; ++i) records.sessions.push_back(uuid_of(i));
  ASSERT_FALSE(replace_file(path, encode_records(records)));
  SessionHistoryFile history(path, next_boot);
  EXPECT_TRUE(history.known(uuid_of(0)));
  history.add(uuid_of(70000));
  EXPECT_FALSE(history.known(uuid_of(0)));
  EXPECT_TRUE(history.known(uuid_of(1)));
  EXPECT_TRUE(history.known(uuid_of(70000)));
}

TEST_F(SessionHistoryTest, NothingOfManySessionsAtOnceIsLeftOut) {
  {
    SessionHistoryFile history(path, boot);
    for (std::uint32_t i = 0; i < 2000; ++i) history.add(uuid_of(i));
  }
  const auto records = parse_records(read_file(path, 1 << 20).value());
  ASSERT_TRUE(records);
  EXPECT_EQ(records->sessions.size(), 2000U);
  EXPECT_EQ(records->sessions.back(), uuid_of(1999));
}

TEST_F(SessionHistoryTest, ADamagedFileIsReplacedAndRefusesNobody) {
  for (const char* text : {"", "{", "[]", "{\"version\":2}", "{\"version\":1,\"boot\":\"xyz\"}"}) {
    EXPECT_FALSE(parse_records(text)) << text;
    ASSERT_FALSE(replace_file(path, text));
    { EXPECT_TRUE(SessionHistoryFile(path, boot).known(uuid_of(1))); }
    EXPECT_TRUE(parse_records(read_file(path, 1 << 20).value()));
  }
}

TEST_F(SessionHistoryTest, ThisKernelHasABootIdAndItStays) {
  EXPECT_NE(boot_id(), Uuid{});
  EXPECT_EQ(boot_id(), boot_id());
}

}  // namespace
}  // namespace rnbd::daemon
