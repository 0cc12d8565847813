#include "daemon/tree/attributes.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>

namespace rnbd::daemon {
namespace {

// A daemon whose answers come when the test says so.
struct Daemon {
  std::deque<AdminReply> lists;
  std::deque<std::pair<AdminRequest, AdminReply>> commands;
  Attributes attributes{[this](bool with_users, AdminReply reply) {
                          counted += with_users ? 1 : 0;
                          lists.push_back(std::move(reply));
                        },
                        [this](const AdminRequest& request, AdminReply reply) {
                          commands.emplace_back(request, attributes.noting(std::move(reply)));
                        },
                        [this] { return now; }};
  TimePoint now{std::chrono::seconds(1)};

  void list() {
    AdminResponse state;
    state.daemon.program = "rnbd-client";
    state.sessions.push_back({.name = "s", .policy = "round-robin"});
    auto reply = std::move(lists.front());
    lists.pop_front();
    reply(state);
  }
  void refuse(int error) {
    auto [request, reply] = std::move(commands.front());
    commands.pop_front();
    AdminResponse response;
    if (error != 0) response.error = Problem{ProblemCode::failed, "a reason", "", error};
    reply(response);
  }
  std::optional<AdminResponse> ask(AdminCommand command, std::string target,
                                   std::string text = {}) {
    std::optional<AdminResponse> answer;
    AdminRequest request;
    request.command = command;
    request.target = std::move(target);
    request.text = std::move(text);
    attributes.handle(request, [&](AdminResponse response) { answer = std::move(response); });
    if (!lists.empty()) list();
    if (!commands.empty()) refuse(next_error);
    return answer;
  }
  int next_error = 0;
  int counted = 0;  // lists with users
};

constexpr const char* kPolicy = "devices/virtual/rtrs-client/s/mpath_policy";
constexpr const char* kLastError = "devices/virtual/rtrs-client/s/last_error";

TEST(Attributes, AreReadListedAndWrittenByPath) {
  Daemon daemon;
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, kPolicy)->text, "round-robin (RR: 0)\n");
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, "/" + std::string(kPolicy))->text,
            "round-robin (RR: 0)\n");
  const auto listed = daemon.ask(AdminCommand::list_attributes, "class");
  ASSERT_FALSE(listed->nodes.empty());
  EXPECT_EQ(listed->nodes[0].path, "class");
  EXPECT_GT(daemon.ask(AdminCommand::list_attributes, "")->nodes.size(), 20U);
  EXPECT_FALSE(daemon.ask(AdminCommand::write_attribute, kPolicy, "mi")->error);
}

TEST(Attributes, LinksOnTheWayAreFollowed) {
  Daemon daemon;
  const char* linked = "class/rtrs-client/s/mpath_policy";
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, linked)->text, "round-robin (RR: 0)\n");
  EXPECT_FALSE(daemon.ask(AdminCommand::write_attribute, linked, "mi")->error);
  EXPECT_EQ(daemon.ask(AdminCommand::write_attribute, linked, "bogus")->error->error, EINVAL);
  EXPECT_NE(daemon.ask(AdminCommand::read_attribute, kLastError)->text, "");
  EXPECT_EQ(daemon.ask(AdminCommand::list_attributes, "class/rtrs-client/s/paths")->nodes[0].path,
            "devices/virtual/rtrs-client/s/paths");
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, "class/rtrs-client/t/x/y")->error->error,
            ENOENT);
}

TEST(Attributes, WhatIsNotOneIsRefusedInWords) {
  Daemon daemon;
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, "class/nosuch")->error->error, ENOENT);
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, "class")->error->error, EISDIR);
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, "class/rtrs-client/s")->error->error, EINVAL);
  EXPECT_EQ(daemon.ask(AdminCommand::write_attribute, kLastError, "1")->error->error, EACCES);
}

TEST(Attributes, TheLastFailedWriteIsToldUntilOneSucceeds) {
  Daemon daemon;
  EXPECT_EQ(daemon.ask(AdminCommand::write_attribute, kPolicy, "bogus")->error->error, EINVAL);
  EXPECT_NE(daemon.ask(AdminCommand::read_attribute, kLastError)->text.find("bogus"),
            std::string::npos);
  daemon.next_error = ENOENT;
  EXPECT_EQ(daemon.ask(AdminCommand::write_attribute, kPolicy, "mi")->error->error, ENODEV);
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, kLastError)->text, "a reason\n");
  daemon.next_error = 0;
  daemon.ask(AdminCommand::write_attribute, kPolicy, "mi");
  EXPECT_EQ(daemon.ask(AdminCommand::read_attribute, kLastError)->text, "");
}

TEST(Attributes, OneSnapshotServesAllWhoAskAtOneTimeAndNobodyWhoAsksLater) {
  Daemon daemon;
  int told = 0;
  const auto want = [&](const TreeStatePtr&) { ++told; };
  daemon.attributes.look({kPolicy, Depth::node}, want);
  daemon.attributes.look({kPolicy, Depth::node}, want);
  daemon.attributes.look({kPolicy, Depth::node}, want);
  EXPECT_EQ(daemon.lists.size(), 1U);
  daemon.list();
  EXPECT_EQ(told, 1);  // the others came after it was taken
  EXPECT_EQ(daemon.lists.size(), 1U);
  daemon.list();
  EXPECT_EQ(told, 3);
  EXPECT_TRUE(daemon.lists.empty());
}

// Names as the file system looks them up; true if they were of a snapshot that was there already.
bool names_were_known(Daemon& daemon) {
  AdminRequest request{.command = AdminCommand::list_attributes,
                       .target = "devices/virtual/rtrs-client",
                       .depth = "names",
                       .recent = true};
  std::size_t nodes = 0;
  daemon.attributes.handle(request,
                           [&](const AdminResponse& answer) { nodes = answer.nodes.size(); });
  const bool known = daemon.lists.empty();
  if (!known) daemon.list();
  EXPECT_EQ(nodes, 2U);  // the directory and its session
  return known;
}

TEST(Attributes, NamesAreSharedForAShortWhile) {
  Daemon daemon;
  EXPECT_FALSE(names_were_known(daemon));
  daemon.now += kNamesAge - Duration(1);
  EXPECT_TRUE(names_were_known(daemon));
  daemon.now += Duration(1);
  EXPECT_FALSE(names_were_known(daemon));
}

TEST(Attributes, WhatAnAttributeReadsIsNeverShared) {
  Daemon daemon;
  EXPECT_FALSE(names_were_known(daemon));
  std::optional<std::string> text;
  AdminRequest request{.command = AdminCommand::read_attribute, .target = kPolicy};
  daemon.attributes.handle(request, [&](const AdminResponse& answer) { text = answer.text; });
  EXPECT_FALSE(text);
  daemon.list();
  EXPECT_EQ(text, "round-robin (RR: 0)\n");
}

TEST(Attributes, UsersAreCountedOnlyWhereTheyAreTold) {
  Daemon daemon;
  daemon.ask(AdminCommand::read_attribute, kPolicy);
  names_were_known(daemon);
  daemon.ask(AdminCommand::write_attribute, kPolicy, "mi");
  EXPECT_EQ(daemon.counted, 0);
  daemon.ask(AdminCommand::read_attribute, "block/rnbd0/rnbd/users");
  EXPECT_EQ(daemon.counted, 1);
  daemon.ask(AdminCommand::list_attributes, "block");
  EXPECT_EQ(daemon.counted, 2);
}

TEST(Attributes, NothingOfBeforeAnAnsweredCommandIsShownAgain) {
  Daemon daemon;
  daemon.ask(AdminCommand::write_attribute, kPolicy, "mi");
  daemon.now += Duration(1);
  EXPECT_FALSE(names_were_known(daemon));
  daemon.now += Duration(1);
  EXPECT_TRUE(names_were_known(daemon));
  daemon.ask(AdminCommand::write_attribute, kPolicy, "bogus");  // not even tried
  EXPECT_FALSE(daemon.ask(AdminCommand::read_attribute, kLastError)->text.empty());
  EXPECT_TRUE(names_were_known(daemon));
  daemon.ask(AdminCommand::write_attribute, kPolicy, "rr");
  EXPECT_FALSE(names_were_known(daemon));
  // Any other command of the admin socket.
  daemon.now += Duration(1);
  EXPECT_FALSE(names_were_known(daemon));
  const AdminReply reply = daemon.attributes.noting([](const AdminResponse&) {});
  EXPECT_TRUE(names_were_known(daemon));  // not yet answered
  reply(AdminResponse{});
  EXPECT_FALSE(names_were_known(daemon));
}

}  // namespace
}  // namespace rnbd::daemon
