// Both daemons in one process: every module put together, over loopback and Unix sockets.

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "daemon/admin/admin_client.h"
#include "daemon/client/client_daemon.h"
#include "daemon/server/server_daemon.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

class Wiring : public testing::Test {
 protected:
  Wiring() {
    std::string name = testing::TempDir() + "rnbd-wiring-XXXXXX";
    directory_ = mkdtemp(name.data());
    fs::create_directory(directory_ + "/store");
    volume("disk0");
    volume("disk1");
    config_.server.dev_search_path = directory_ + "/store";
    config_.server.listen = {"ip:127.0.0.1"};
    config_.server.port_nr = 0;
    config_.server.unix_listen = directory_ + "/rnbd.sock";
    config_.server.admin_socket = directory_ + "/server.sock";
    config_.server.loops.reactors = 2;
    config_.exports.push_back({.name = "ram", .backend = "memory", .file = "", .size = 1 << 20});
    config_.client.admin_socket = directory_ + "/client.sock";
    config_.client.frontend = "nbd";
    config_.client.connect_timeout = 2s;
    config_.client.loops.reactors = 2;
  }
  ~Wiring() override {
    client_.reset();
    server_.reset();
    fs::remove_all(directory_);
  }

  void volume(const std::string& name) {
    std::ofstream(directory_ + "/store/" + name).close();
    fs::resize_file(directory_ + "/store/" + name, 1 << 20);
  }
  void start() {
    auto server = ServerDaemon::start(config_);
    ASSERT_TRUE(server) << server.error().text();
    server_ = std::move(*server);
    auto client = ClientDaemon::start(config_);
    ASSERT_TRUE(client) << client.error().text();
    client_ = std::move(*client);
  }
  AdminResponse ask(const std::string& socket, const AdminRequest& request) {
    auto answer = ask_daemon(directory_ + "/" + socket, request, 30s);
    EXPECT_TRUE(answer) << answer.error().text();
    return answer.value_or(AdminResponse{});
  }
  AdminResponse map(const std::string& volume, const std::string& session = "test",
                    const std::string& mode = "rw") {
    AdminRequest request{.command = AdminCommand::map};
    request.map = {.session = session,
                   .paths = {{"", "unix:" + directory_ + "/rnbd.sock", kDefaultPort}},
                   .device_path = volume,
                   .access_mode = mode};
    return ask("client.sock", request);
  }
  AdminResponse unmap(const std::string& target, const std::string& session = "") {
    return ask("client.sock",
               {.command = AdminCommand::unmap, .target = target, .session = session});
  }
  AdminResponse mapped() { return ask("client.sock", {.command = AdminCommand::list}); }
  AdminResponse served() { return ask("server.sock", {.command = AdminCommand::list}); }

  std::string directory_;
  Config config_;
  std::unique_ptr<ServerDaemon> server_;
  std::unique_ptr<ClientDaemon> client_;
};

TEST_F(Wiring, AVolumeIsMappedListedOnBothSidesAndUnmapped) {
  start();
  AdminResponse first = map("/disk0");
  ASSERT_FALSE(first.error) << first.error->text();
  ASSERT_EQ(first.devices.size(), 1U);
  EXPECT_EQ(first.devices[0].name, "rnbd0");
  EXPECT_EQ(first.devices[0].size, 1U << 20);
  EXPECT_EQ(first.devices[0].state, "open");
  EXPECT_TRUE(first.devices[0].nbd.starts_with("nbd+unix:///"));
  AdminResponse again = map("/disk0");
  EXPECT_TRUE(again.already);
  AdminResponse second = map("disk1");
  ASSERT_FALSE(second.error) << second.error->text();
  EXPECT_EQ(second.devices[0].name, "rnbd1");
  EXPECT_EQ(mapped().devices.size(), 2U);
  ASSERT_EQ(mapped().sessions.size(), 1U);
  EXPECT_EQ(mapped().sessions[0].state, "connected");
  EXPECT_EQ(served().opens.size(), 2U);
  EXPECT_EQ(served().sessions.size(), 1U);
  EXPECT_FALSE(unmap("rnbd0").error);
  EXPECT_EQ(served().opens.size(), 1U);
  EXPECT_FALSE(unmap("disk1", "test").error);
  EXPECT_TRUE(mapped().devices.empty());
}

TEST_F(Wiring, TheLowestFreeNumberIsUsedAgain) {
  start();
  ASSERT_FALSE(map("disk0").error);
  ASSERT_FALSE(map("disk1").error);
  ASSERT_FALSE(unmap("rnbd0").error);
  EXPECT_EQ(map("ram").devices.at(0).name, "rnbd0");
}

TEST_F(Wiring, MistakesAreAnsweredInWordsAndLeaveNothingBehind) {
  start();
  EXPECT_EQ(map("nosuch").error.value_or(Problem{}).code, ProblemCode::not_found);
  EXPECT_EQ(map("../store/disk0").error.value_or(Problem{}).code, ProblemCode::usage);
  EXPECT_EQ(unmap("rnbd7").error.value_or(Problem{}).code, ProblemCode::not_found);
  AdminRequest no_path{.command = AdminCommand::map};
  no_path.map = {.session = "other", .paths = {}, .device_path = "disk0"};
  EXPECT_EQ(ask("client.sock", no_path).error.value_or(Problem{}).error, ENXIO);
  EXPECT_TRUE(mapped().devices.empty());
  EXPECT_TRUE(served().opens.empty());
}

TEST_F(Wiring, ASecondWriterIsRefusedAndAReaderIsNot) {
  start();
  ASSERT_FALSE(map("disk0", "one").error);
  Problem refused = map("disk0", "two").error.value_or(Problem{});
  EXPECT_EQ(refused.error, EPERM);
  EXPECT_EQ(refused.code, ProblemCode::refused);
  EXPECT_FALSE(map("disk0", "two", "ro").error);
  EXPECT_FALSE(map("disk0", "three", "migration").error);
  EXPECT_EQ(unmap("disk0").error.value_or(Problem{}).code, ProblemCode::usage);  // which of them?
  EXPECT_FALSE(unmap("disk0@two").error);
}

TEST_F(Wiring, EndingTheClientClosesItsVolumesOnTheServer) {
  start();
  ASSERT_FALSE(map("disk0").error);
  client_.reset();
  EXPECT_TRUE(served().opens.empty());
}

TEST_F(Wiring, MappingAndUnmappingManyTimesLeavesNothing) {
  start();
  auto descriptors = [] {
    return std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator());
  };
  ASSERT_FALSE(map("disk0").error);
  ASSERT_FALSE(unmap("rnbd0").error);
  auto before = descriptors();
  for (int i = 0; i < 20; ++i) {
    AdminResponse answer = map("disk0");
    ASSERT_FALSE(answer.error) << answer.error->text();
    ASSERT_FALSE(unmap("rnbd0").error);
  }
  EXPECT_LE(descriptors(), before + 4);  // closing sockets may still be lingering
}

TEST_F(Wiring, AServerWithNothingToServeDoesNotStart) {
  config_.server.dev_search_path.clear();
  config_.exports.clear();
  auto server = ServerDaemon::start(config_);
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().code, ProblemCode::config);
}

}  // namespace
}  // namespace rnbd::daemon
