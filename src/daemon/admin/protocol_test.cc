#include "daemon/admin/protocol.h"

#include <gtest/gtest.h>

namespace rnbd::daemon {
namespace {

TEST(AdminProtocol, ARequestArrivesAsItWasSent) {
  AdminRequest request{.command = AdminCommand::map, .exclusive = true};
  request.map = {.session = "a@b",
                 .paths = {{"ip:1.1.1.1", "ip:2.2.2.2", 99}},
                 .device_path = "x",
                 .access_mode = "ro",
                 .nr_poll_queues = 3};
  auto copy = decode_request(encode(request));
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->command, AdminCommand::map);
  EXPECT_EQ(copy->map, request.map);
  EXPECT_TRUE(copy->exclusive);
  AdminRequest unmap{
      .command = AdminCommand::unmap, .target = "rnbd0", .session = "s", .force = true};
  auto second = decode_request(encode(unmap));
  ASSERT_TRUE(second);
  EXPECT_EQ(second->target, "rnbd0");
  EXPECT_EQ(second->session, "s");
  EXPECT_TRUE(second->force);
}

TEST(AdminProtocol, ChangesOfPathsAndSettingsArriveAsTheyWereSent) {
  const AdminRequest add{.command = AdminCommand::add_path,
                         .target = "s",
                         .new_path = {"ip:1.1.1.1", "tcp:2.2.2.2", 0}};
  auto copy = decode_request(encode(add));
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->command, AdminCommand::add_path);
  EXPECT_EQ(copy->target, "s");
  EXPECT_EQ(copy->new_path, add.new_path);
  for (auto command :
       {AdminCommand::remove_path, AdminCommand::disconnect, AdminCommand::reconnect}) {
    copy = decode_request(encode(AdminRequest{.command = command, .target = "s", .path = "2"}));
    ASSERT_TRUE(copy);
    EXPECT_EQ(copy->command, command);
    EXPECT_EQ(copy->target, "s");
    EXPECT_EQ(copy->path, "2");
  }
  const AdminRequest set{.command = AdminCommand::set,
                         .target = "rnbd0",
                         .force = true,
                         .settings = {{"hold", "fail"}, {"policy", "RR"}}};
  copy = decode_request(encode(set));
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->settings, set.settings);
  EXPECT_TRUE(copy->force);
}

TEST(AdminProtocol, HowMuchOfTheTreeIsWantedArrives) {
  const AdminRequest list{.command = AdminCommand::list_attributes,
                          .target = "class",
                          .depth = "names",
                          .recent = true};
  const auto copy = decode_request(encode(list));
  ASSERT_TRUE(copy);
  EXPECT_EQ(copy->depth, "names");
  EXPECT_TRUE(copy->recent);
  EXPECT_FALSE(decode_request(R"({"version":1,"command":"list_attributes"})")->recent);
}

TEST(AdminProtocol, AnAnswerArrivesAsItWasSent) {
  AdminResponse response;
  response.already = true;
  response.daemon = {.program = "rnbd-client",
                     .version = "1",
                     .pid = 7,
                     .listen = {"x"},
                     .search_path = "/p",
                     .exports = {"e"}};
  DeviceView device;
  device.name = "rnbd0";
  device.size = 1ULL << 62;
  response.devices.push_back(device);
  SessionView session{
      .name = "s", .state = "connected", .queue_depth = 512, .max_io_size = 126976, .paths = {}};
  session.paths.push_back({.name = "a@b", .port = 65535, .read_bytes = ~0ULL});
  add_up(session);
  response.sessions.push_back(session);
  response.opens.push_back({.volume = "v", .session = "s", .device_id = 4});
  auto copy = decode_response(encode(response));
  ASSERT_TRUE(copy) << copy.error().text();
  EXPECT_EQ(encode(*copy), encode(response));
  EXPECT_EQ(copy->sessions[0].paths[0].read_bytes, ~0ULL);
  EXPECT_EQ(copy->sessions[0].read_bytes, ~0ULL);
}

TEST(AdminProtocol, AProblemArrivesWithItsCodeErrnoAndWords) {
  AdminResponse response;
  response.error = Problem{ProblemCode::busy, "what", "hint", 16};
  auto copy = decode_response(encode(response));
  ASSERT_TRUE(copy && copy->error);
  EXPECT_EQ(copy->error->code, ProblemCode::busy);
  EXPECT_EQ(copy->error->text(), "what (hint)");
  EXPECT_EQ(copy->error->error, 16);
}

TEST(AdminProtocol, StringsOfPeersThatAreNotUtf8DoNotBreakTheAnswer) {
  AdminResponse response;
  DeviceView device;
  device.volume = "a\xff\xfe\x01";
  response.devices.push_back(device);
  EXPECT_TRUE(decode_response(encode(response)));
}

class AdminRefuses : public testing::TestWithParam<std::string> {};

TEST_P(AdminRefuses, WithWordsAndWithoutCrashing) {
  auto request = decode_request(GetParam());
  ASSERT_FALSE(request) << GetParam();
  EXPECT_FALSE(request.error().what.empty());
}

INSTANTIATE_TEST_SUITE_P(
    BadRequests, AdminRefuses,
    testing::Values("", "{", "[]", "null", "7", R"({})", R"({"version":2,"command":"list"})",
                    R"({"version":"1","command":"list"})", R"({"version":1})",
                    R"({"version":1,"command":"lst"})", R"({"version":1,"command":7})",
                    R"({"version":1,"command":"unmap","target":7})",
                    R"({"version":1,"command":"unmap","force":"yes"})",
                    R"({"version":1,"command":"map","map":[]})",
                    R"({"version":1,"command":"map","map":{"paths":{}}})",
                    R"({"version":1,"command":"map","map":{"paths":[7]}})",
                    R"({"version":1,"command":"map","map":{"paths":[{"port":65536}]}})",
                    R"({"version":1,"command":"map","map":{"paths":[{"port":-1}]}})",
                    R"({"version":1,"command":"map","map":{"nr_poll_queues":1e99}})",
                    std::string(40000, '['), std::string(kAdminRequestMax, ' ')));

}  // namespace
}  // namespace rnbd::daemon
