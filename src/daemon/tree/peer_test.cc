#include "daemon/tree/peer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

// The other daemon's socket; it accepts and answers when the test says so.
class PeerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/rnbd-peer-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = name + "/admin.sock";
  }
  void TearDown() override {
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }

  sockaddr_un address() const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    return address;
  }
  void listen(int backlog) {
    listening_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_un at = address();
    ASSERT_EQ(::bind(listening_.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
    ASSERT_EQ(::listen(listening_.get(), backlog), 0);
  }
  // Others that connect until the socket takes no more.
  void fill() {
    const sockaddr_un at = address();
    for (;;) {
      UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) break;
      others_.push_back(std::move(fd));
    }
    ASSERT_EQ(errno, EAGAIN);
  }
  bool accept() {
    UniqueFd fd(::accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) return false;
    accepted_.push_back(std::move(fd));
    return true;
  }
  // Answers what was asked on the connections that ask.
  void answer_all() {
    while (accept()) continue;
    for (const UniqueFd& fd : accepted_) {
      std::array<char, 4096> buffer{};
      if (::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT) <= 0) continue;
      const std::string line = encode(AdminResponse{}) + "\n";
      EXPECT_EQ(::send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(line.size()));
    }
  }
  void round(Peer& peer, int most_ms = -1) {
    std::vector<pollfd> polls;
    peer.add_polls(polls);
    ::poll(polls.data(), polls.size(), peer.poll_timeout_ms(most_ms));
    peer.on_polled(polls.data());
  }
  Peer::Answer note() {
    return [this](const Outcome<AdminResponse>& outcome) {
      told_.push_back(outcome ? 0 : outcome.error().error);
    };
  }

  std::string directory_, path_;
  UniqueFd listening_;
  std::vector<UniqueFd> others_, accepted_;
  std::vector<int> told_;  // errnos
};

TEST_F(PeerTest, OneThatIsAwaySaysSoAtOnce) {
  Peer peer(path_, 4);
  peer.ask({}, 1min, note());
  EXPECT_EQ(told_, (std::vector{ENOENT}));
}

TEST_F(PeerTest, AQuestionIsAnswered) {
  listen(8);
  Peer peer(path_, 4);
  peer.ask({}, 1min, note());
  while (told_.empty()) {
    answer_all();
    round(peer, 0);
  }
  EXPECT_EQ(told_, (std::vector{0}));
}

TEST_F(PeerTest, OneWhoseSocketIsFullIsNotAway) {
  listen(0);
  fill();
  Peer peer(path_, 4);
  peer.ask({}, 1min, note());
  round(peer);
  EXPECT_TRUE(told_.empty());
  others_.clear();
  while (told_.empty()) {
    answer_all();
    round(peer);
  }
  EXPECT_EQ(told_, (std::vector{0}));
}

TEST_F(PeerTest, OneWhoseSocketStaysFullIsSilent) {
  listen(0);
  fill();
  Peer peer(path_, 4);
  peer.ask({}, 10ms, note());
  while (told_.empty()) round(peer);
  EXPECT_EQ(told_, (std::vector{ETIMEDOUT}));
  peer.ask({}, 1min, note());  // is not even tried
  EXPECT_EQ(told_, (std::vector{ETIMEDOUT, ETIMEDOUT}));
}

TEST_F(PeerTest, WhoWaitsForItsTurnDoesNotWaitLongerThanItsTime) {
  listen(8);
  Peer peer(path_, 1);
  peer.ask({}, 1min, note());
  peer.ask({}, 10ms, note());
  while (told_.empty()) round(peer);
  EXPECT_EQ(told_, (std::vector{ETIMEDOUT}));
  while (told_.size() < 2) {
    answer_all();
    round(peer, 0);
  }
  EXPECT_EQ(told_[1], 0);
}

TEST_F(PeerTest, WhoWaitsForItsTurnIsAskedWhenThereIsRoom) {
  listen(8);
  Peer peer(path_, 2);
  for (int i = 0; i < 7; ++i) peer.ask({}, 1min, note());
  while (told_.size() < 7) {
    answer_all();
    round(peer, 0);
  }
  EXPECT_EQ(told_, std::vector<int>(7));
}

}  // namespace
}  // namespace rnbd::daemon
