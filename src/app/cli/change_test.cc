#include "app/cli/change.h"

#include <gtest/gtest.h>

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using Words = std::vector<std::string>;

AdminRequest request_of(const Words& words) {
  auto command = parse_command(words, "");
  EXPECT_TRUE(command) << (command ? "" : command.error().text());
  auto request = parse_change(*command);
  EXPECT_TRUE(request) << (request ? "" : request.error().text());
  return request.value_or(AdminRequest{});
}

std::string refused(const Words& words) {
  auto command = parse_command(words, "");
  EXPECT_TRUE(command);
  auto request = parse_change(command.value_or(Command{}));
  EXPECT_FALSE(request);
  if (request) return "";
  EXPECT_EQ(request.error().code, daemon::ProblemCode::usage);
  return request.error().text();
}

TEST(Change, APathIsAddedAsMapTakesItAndABareAddressIsAnIpOne) {
  EXPECT_EQ(request_of({"add", "path", "s", "ip:10.0.0.9@ip:10.0.0.1"}).new_path,
            (daemon::PathSpec{"ip:10.0.0.9", "ip:10.0.0.1", 0}));
  EXPECT_EQ(request_of({"add", "path", "s", "10.0.0.1"}).new_path.destination, "ip:10.0.0.1");
  EXPECT_EQ(request_of({"add", "path", "s", "path=tcp:10.0.0.1"}).new_path.destination,
            "tcp:10.0.0.1");
  EXPECT_EQ(request_of({"add", "path", "s", "st4.example"}).new_path.destination,
            "host:st4.example");
  EXPECT_EQ(request_of({"add", "path", "s", "dest_port=99", "10.0.0.1"}).new_path.port, 99);
  EXPECT_EQ(request_of({"add", "path", "s", "10.0.0.1"}).target, "s");
}

TEST(Change, APathIsChangedByItsSessionAndNameOrOneOfThem) {
  const AdminRequest both = request_of({"remove", "path", "s", "2"});
  EXPECT_EQ(both.command, AdminCommand::remove_path);
  EXPECT_EQ(both.target, "s");
  EXPECT_EQ(both.path, "2");
  EXPECT_EQ(request_of({"disconnect", "s"}).target, "s");
  EXPECT_EQ(request_of({"disconnect", "s"}).path, "");
  EXPECT_EQ(request_of({"path", "reconnect", "ip:10.0.0.1"}).command, AdminCommand::reconnect);
}

TEST(Change, SettingsAreNamesWithValues) {
  const AdminRequest set =
      request_of({"set", "s", "policy=min-latency", "max_reconnect_attempts=-1"});
  EXPECT_EQ(set.target, "s");
  EXPECT_EQ(set.settings, (std::vector<daemon::Setting>{{"policy", "min-latency"},
                                                        {"max_reconnect_attempts", "-1"}}));
  EXPECT_TRUE(request_of({"set", "rnbd0", "hold=fail", "--force"}).force);
  EXPECT_TRUE(request_of({"set", "rnbd0", "hold=fail", "force"}).force);
}

TEST(Change, MistakesSayWhatIsMissingAndHowItGoes) {
  EXPECT_NE(refused({"add", "path"}).find("rnbd add path SESSION"), std::string::npos);
  EXPECT_NE(refused({"add", "path", "s"}).find("which path to 's'"), std::string::npos);
  EXPECT_NE(refused({"add", "path", "s", "a", "b"}).find("one path at a time"), std::string::npos);
  EXPECT_NE(refused({"add", "path", "s", "ip:x"}).find("ip:"), std::string::npos);
  EXPECT_NE(refused({"add", "path", "s", "1.1.1.1", "dest_port=0"}).find("dest_port"),
            std::string::npos);
  EXPECT_NE(refused({"remove", "path"}).find("remove what"), std::string::npos);
  EXPECT_NE(refused({"disconnect", "s", "1", "2"}).find("'2'"), std::string::npos);
  EXPECT_NE(refused({"set", "rnbd0", "hold"}).find("'hold' is no setting"), std::string::npos);
  EXPECT_NE(refused({"set", "rnbd0", "=x"}).find("no setting"), std::string::npos);
  EXPECT_NE(refused({"set", "rnbd0", "hold="}).find("no setting"), std::string::npos);
}

TEST(Change, ASizeMayHaveItsUnitBesideIt) {
  EXPECT_EQ(request_of({"resize", "rnbd0"}).size, 0U);  // what the server has
  EXPECT_EQ(request_of({"resize", "rnbd0", "512", "M"}).size, 512U << 20);
  EXPECT_EQ(request_of({"resize", "rnbd0", "1G"}).size, 1U << 30);
  EXPECT_EQ(request_of({"client", "device", "resize", "rnbd0", "512", "M", "verbose"}).size,
            512U << 20);
  EXPECT_NE(refused({"resize", "rnbd0", "much"}).find("'much' is not a size"), std::string::npos);
  EXPECT_NE(refused({"resize", "rnbd0", "0"}).find("not a size"), std::string::npos);
  EXPECT_NE(refused({"resize"}).find("resize what"), std::string::npos);
}

TEST(Change, AVolumeIsTakenFromOneClientOrFromAll) {
  EXPECT_EQ(request_of({"close", "v"}).session, "");
  EXPECT_EQ(request_of({"close", "v", "a@b"}).session, "a@b");
  EXPECT_EQ(request_of({"server", "device", "close", "v", "from", "a@b"}).session, "a@b");
  EXPECT_TRUE(request_of({"close", "v", "--force"}).force);
  EXPECT_NE(refused({"close", "v", "a", "b"}).find("'b'"), std::string::npos);
}

TEST(Change, WhatRecoversIsADeviceOrAPathThatIsConnectedAgain) {
  EXPECT_EQ(request_of({"recover", "rnbd0"}).command, AdminCommand::recover);
  EXPECT_EQ(request_of({"session", "recover", "a@b"}).command, AdminCommand::reconnect);
  EXPECT_EQ(request_of({"remap", "rnbd0", "force"}).force, true);
}

TEST(Change, CountersAreResetBySessionPathAndName) {
  EXPECT_EQ(request_of({"reset", "s"}).counters, "all");
  const AdminRequest request = request_of({"reset", "s", "2", "rdma"});
  EXPECT_EQ(request.target, "s");
  EXPECT_EQ(request.path, "2");
  EXPECT_EQ(request.counters, "rdma");
  EXPECT_NE(refused({"reset", "s", "2", "rmda"}).find("'rdma'"), std::string::npos);
}

TEST(Change, WhatWouldBeDoneAndWhatWasDoneAreTold) {
  EXPECT_EQ(intent(request_of({"add", "path", "s", "10.0.0.1"})), "add the path ip:10.0.0.1 to s");
  EXPECT_EQ(intent(request_of({"set", "s", "policy=RR"})), "set s policy=RR");
  const AdminRequest request = request_of({"disconnect", "s", "1"});
  EXPECT_EQ(intent(request), "disconnect s 1");
  daemon::AdminResponse response;
  response.sessions.push_back({.name = "s", .state = "connected"});
  response.sessions[0].paths.push_back({.name = "ip:10.0.0.9@ip:10.0.0.1", .state = "closed"});
  EXPECT_EQ(outcome(request, response),
            "path ip:10.0.0.9@ip:10.0.0.1 of session s is disconnected\n");
}

}  // namespace
}  // namespace rnbd::cli
