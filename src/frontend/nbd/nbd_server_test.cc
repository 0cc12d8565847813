#include "frontend/nbd/nbd_server.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>

#include "frontend/nbd/testing/nbd_bench.h"

namespace rnbd::nbd {
namespace {

using testing::Bench;
using testing::Client;
using wire::NbdCommand;

class ServerTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<Server>> create() {
    return bench_.on_home([&] {
      Reactor* const home = &bench_.home();
      return Server::create(std::span(&home, 1), bench_.options);
    });
  }
  block::FakeDevice device_, other_;
  Bench bench_;
};

TEST_F(ServerTest, MakesTheSocketForItsOwnerOnlyAndUnlinksItAtTheEnd) {
  bench_.start();
  struct stat found {};
  ASSERT_EQ(::stat(bench_.options.socket_path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600U);
  bench_.stop();
  EXPECT_NE(::stat(bench_.options.socket_path.c_str(), &found), 0);
}

TEST_F(ServerTest, ReplacesADeadSocketButNotALiveOneNorAFile) {
  bench_.start();
  EXPECT_EQ(create().error(), from_errno(EADDRINUSE));
  Client client(bench_.options.socket_path);
  EXPECT_TRUE(client.connected());
  bench_.stop();
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, bench_.options.socket_path.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  bench_.start();
  bench_.stop();
  std::ofstream(bench_.options.socket_path) << "not a socket";
  EXPECT_EQ(create().error(), from_errno(EEXIST));
  ::unlink(bench_.options.socket_path.c_str());
}

// As after a kill: the kernel has yet to let go of what its ring listened on.
TEST_F(ServerTest, ReplacesASocketThatStillListensWhoseProcessIsGone) {
  const UniqueFd left(::socket(AF_UNIX, SOCK_STREAM, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, bench_.options.socket_path.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(::bind(left.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::listen(left.get(), 1) == 0 ? 0 : 1);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  bench_.start();
  EXPECT_TRUE(Client(bench_.options.socket_path).connected());
  bench_.stop();
}

TEST_F(ServerTest, RefusesAPathTooLongForASocket) {
  bench_.options.socket_path = "/tmp/" + std::string(200, 'x');
  EXPECT_EQ(create().error(), from_errno(ENAMETOOLONG));
}

TEST_F(ServerTest, ServesOnLoopbackTcpIfAsked) {
  bench_.options.tcp_port = 0;
  bench_.start();
  const std::uint16_t port = bench_.on_home([&] { return bench_.server->tcp_port(); });
  ASSERT_NE(port, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM, 0));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  char greeting[18];
  ASSERT_EQ(::recv(client.get(), greeting, 18, MSG_WAITALL), 18);
  EXPECT_EQ(std::string(greeting, 8), "NBDMAGIC");
}

TEST_F(ServerTest, RefusesASecondExportOfTheSameNameAndUnknownNames) {
  bench_.start();
  EXPECT_TRUE(bench_.add("a", device_));
  EXPECT_EQ(bench_.add("a", other_).error(), from_errno(EEXIST));
  EXPECT_EQ(bench_.add(std::string(4097, 'n'), other_).error(), from_errno(EINVAL));
  EXPECT_EQ(bench_.remove("b").get(), from_errno(ENOENT));
  Client client(bench_.options.socket_path);
  EXPECT_FALSE(client.go("b"));
}

TEST_F(ServerTest, CountsTheConnectionsOfEachExport) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  ASSERT_TRUE(bench_.add("b", other_));
  Client one(bench_.options.socket_path), two(bench_.options.socket_path),
      three(bench_.options.socket_path);
  ASSERT_TRUE(one.go("a"));
  ASSERT_TRUE(two.go("a"));
  ASSERT_TRUE(three.go("b"));
  EXPECT_EQ(one.ask(NbdCommand::read, 0, 512), 0U);
  EXPECT_EQ(two.ask(NbdCommand::read, 0, 512), 0U);
  EXPECT_EQ(bench_.connections("a"), 2U);
  EXPECT_EQ(bench_.connections("b"), 1U);
  EXPECT_EQ(device_.open_queues(), 2U);
  two.hang_up();
  EXPECT_TRUE(Bench::wait_for([&] { return bench_.connections("a") == 1; }));
  EXPECT_EQ(one.ask(NbdCommand::read, 0, 512), 0U);
}

TEST_F(ServerTest, RemovingAnExportDisconnectsItsClientsAndNoOthers) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  ASSERT_TRUE(bench_.add("b", other_));
  Client one(bench_.options.socket_path), two(bench_.options.socket_path);
  ASSERT_TRUE(one.go("a"));
  ASSERT_TRUE(two.go("b"));
  EXPECT_FALSE(bench_.remove("a").get());
  EXPECT_EQ(device_.open_queues(), 0U);
  EXPECT_TRUE(one.at_end());
  EXPECT_EQ(two.ask(NbdCommand::read, 0, 512), 0U);
  EXPECT_TRUE(bench_.add("a", device_));
}

TEST_F(ServerTest, RemovingAnExportWaitsForRequestsAtItsDevice) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  Client client(bench_.options.socket_path);
  ASSERT_TRUE(client.go("a"));
  device_.hold();
  ASSERT_TRUE(client.send(Client::request(NbdCommand::read, 1, 0, 4096)));
  ASSERT_TRUE(Bench::wait_for([&] { return device_.waiting == 1; }));
  auto removed = bench_.remove("a");
  auto removed_again = bench_.remove("a");
  EXPECT_TRUE(client.at_end());
  EXPECT_EQ(removed.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  EXPECT_EQ(bench_.add("a", other_).error(), from_errno(EEXIST));
  Client late(bench_.options.socket_path);
  EXPECT_FALSE(late.go("a"));
  device_.let_go();
  EXPECT_FALSE(removed.get());
  EXPECT_FALSE(removed_again.get());
  EXPECT_EQ(device_.open_queues(), 0U);
}

TEST_F(ServerTest, AnExportMadeReadOnlyRefusesChanges) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_, true));
  Client client(bench_.options.socket_path);
  ASSERT_TRUE(client.go("a"));
  EXPECT_NE(client.info().flags & wire::kNbdReadOnly, 0);
  EXPECT_EQ(client.ask(NbdCommand::write, 0, 512, 0, testing::pattern(512, 0)), 1U);
  EXPECT_EQ(client.ask(NbdCommand::trim, 0, 512), 1U);
  EXPECT_EQ(client.ask(NbdCommand::read, 0, 512), 0U);
}

TEST_F(ServerTest, ClosesAClientThatDoesNotFinishItsHandshake) {
  bench_.options.handshake_timeout = std::chrono::milliseconds(20);
  bench_.start();
  Client client(bench_.options.socket_path);
  char greeting[18];
  ASSERT_TRUE(client.receive(greeting, sizeof greeting));
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, RefusesMoreConnectionsThanAllowedAndTakesThemAgainLater) {
  bench_.options.connections_max = 2;
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  Client one(bench_.options.socket_path);
  ASSERT_TRUE(one.go("a"));
  {
    Client two(bench_.options.socket_path);
    ASSERT_TRUE(two.go("a"));
    Client three(bench_.options.socket_path);
    EXPECT_TRUE(three.at_end());
  }
  ASSERT_TRUE(Bench::wait_for([&] { return bench_.connections("a") == 1; }));
  Client four(bench_.options.socket_path);
  EXPECT_TRUE(four.go("a"));
}

TEST_F(ServerTest, DropsAClientWhenTheDeviceOpensNoQueue) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  device_.fail_open = true;
  Client client(bench_.options.socket_path);
  ASSERT_TRUE(client.go("a"));
  EXPECT_TRUE(client.at_end());
  EXPECT_TRUE(Bench::wait_for([&] { return bench_.connections("a") == 0; }));
}

TEST_F(ServerTest, LeavesNoDescriptorBehindAfterAThousandClients) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  const auto descriptors = [] {
    unsigned count = 0;
    for (int fd = 0; fd < 1024; ++fd) count += ::fcntl(fd, F_GETFD) >= 0 ? 1U : 0U;
    return count;
  };
  const unsigned before = descriptors();
  for (int i = 0; i < 1000; ++i) {
    Client client(bench_.options.socket_path);
    ASSERT_TRUE(client.go("a", i % 2 == 0));
    ASSERT_EQ(client.ask(NbdCommand::read, 0, 512), 0U);
  }
  EXPECT_TRUE(
      Bench::wait_for([&] { return bench_.connections("a") == 0 && descriptors() == before; }));
}

TEST_F(ServerTest, ClosesWithClientsInEveryStage) {
  bench_.start();
  ASSERT_TRUE(bench_.add("a", device_));
  Client negotiating(bench_.options.socket_path), attached(bench_.options.socket_path);
  ASSERT_TRUE(attached.go("a"));
  ASSERT_TRUE(attached.send(Client::request(NbdCommand::read, 1, 0, 1 << 20)));
  bench_.stop();
  EXPECT_EQ(device_.open_queues(), 0U);
}

}  // namespace
}  // namespace rnbd::nbd
