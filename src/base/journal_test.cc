#include "base/journal.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

namespace rnbd {
namespace {

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/rnbd-journal-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = socket_path();
    std::memcpy(address.sun_path, path.data(), path.size());
    fd_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ASSERT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string socket_path() const { return directory_ + "/socket"; }
  std::string entry() const {
    std::array<char, 4096> bytes{};
    const ssize_t size = ::recv(fd_.get(), bytes.data(), bytes.size(), 0);
    return size < 0 ? "" : std::string(bytes.data(), static_cast<std::size_t>(size));
  }

  std::string directory_;
  UniqueFd fd_;
};

TEST_F(JournalTest, AnEntryHasALinePerFieldAndNoneThatIsEmpty) {
  auto journal = Journal::connect(socket_path());
  ASSERT_TRUE(journal);
  const JournalField fields[] = {
      {"MESSAGE", "lost"}, {"RNBD_SESSION", "a@b"}, {"RNBD_PATH", ""}, {"X", "="}};
  ASSERT_EQ(journal->send(fields), Journal::Sent::yes);
  EXPECT_EQ(entry(), "MESSAGE=lost\nRNBD_SESSION=a@b\nX==\n");
}

TEST_F(JournalTest, AValueOfSeveralLinesGoesWithItsLength) {
  auto journal = Journal::connect(socket_path());
  ASSERT_TRUE(journal);
  const JournalField fields[] = {{"MESSAGE", "a\nPRIORITY=0"}};
  ASSERT_EQ(journal->send(fields), Journal::Sent::yes);
  EXPECT_EQ(entry(), std::string("MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n", 29));
}

TEST_F(JournalTest, AJournalThatTakesNothingIsNotWaitedFor) {
  auto journal = Journal::connect(socket_path());
  ASSERT_TRUE(journal);
  const JournalField fields[] = {{"MESSAGE", "more"}};
  auto sent = Journal::Sent::yes;
  for (int i = 0; i < 100000 && sent == Journal::Sent::yes; ++i) sent = journal->send(fields);
  EXPECT_EQ(sent, Journal::Sent::busy);
}

TEST(JournalStream, IsOursOnlyWhenItIsWhatTheDescriptorIsOpenOn) {
  struct stat status {};
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::fstat(ends[1], &status), 0);
  const std::string stream = fmt::format("{}:{}", status.st_dev, status.st_ino);
  EXPECT_TRUE(names_stream(stream, ends[1]));
  EXPECT_FALSE(names_stream(stream + "1", ends[1]));
  EXPECT_FALSE(names_stream("", ends[1]));
  ::close(ends[0]);
  ::close(ends[1]);
  EXPECT_FALSE(names_stream(stream, -1));
}

}  // namespace
}  // namespace rnbd
