#include "app/cli/plan.h"

#include <gtest/gtest.h>

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminResponse;
using Action = Step::Action;

daemon::Rnbdtab tab(const std::string& text) {
  auto table = daemon::parse_rnbdtab(text, "tab", 4);
  EXPECT_TRUE(table) << (table ? "" : table.error().text());
  return table.value_or(daemon::Rnbdtab{});
}

AdminResponse mapped(const std::string& volume, const std::string& mode = "rw") {
  AdminResponse now;
  now.devices.push_back({.name = "rnbd0", .volume = volume, .session = "a@b", .access_mode = mode});
  daemon::SessionView session{.name = "a@b", .policy = "min-inflight"};
  session.paths.push_back({.destination = "ip:10.0.0.1", .port = 1234});
  now.sessions.push_back(session);
  return now;
}

std::vector<Step> planned(const std::string& text, const AdminResponse& now,
                          PlanOptions options = {}) {
  options.host = "me";
  auto steps = plan(tab(text), now, options);
  EXPECT_TRUE(steps) << (steps ? "" : steps.error().text());
  return steps.value_or(std::vector<Step>{});
}

constexpr char kDb[] = "db sessname=a@b path=ip:10.0.0.1 device_path=db";

TEST(Plan, WhatIsAsListedNeedsNothing) {
  EXPECT_TRUE(planned(kDb, mapped("db")).empty());
  EXPECT_TRUE(planned("", {}).empty());
}

TEST(Plan, APathIsToldByItsAddressWhateverItIsCalled) {
  for (const char* path : {"tcp:10.0.0.1", "rdma:10.0.0.1", "host:server", "tcp:server"})
    EXPECT_TRUE(
        planned("db sessname=a@b path=" + std::string(path) + " device_path=db", mapped("db"))
            .empty())
        << path;
  EXPECT_EQ(planned("db sessname=a@b path=tcp:10.0.0.2 device_path=db", mapped("db")).size(), 1U);
}

TEST(Plan, WhatIsMissingIsMappedWithItsSettings) {
  const auto steps =
      planned(std::string(kDb) + " hold=5m,policy=round-robin,once,nofail", AdminResponse{});
  ASSERT_EQ(steps.size(), 1U);
  EXPECT_EQ(steps[0].action, Action::map);
  EXPECT_TRUE(steps[0].nofail);
  ASSERT_EQ(steps[0].requests.size(), 3U);
  EXPECT_TRUE(steps[0].requests[0].once);
  EXPECT_EQ(steps[0].requests[0].map.device_path, "db");
  EXPECT_EQ(steps[0].requests[1].target, "");  // the device just mapped
  EXPECT_EQ(steps[0].requests[2].target, "a@b");
}

TEST(Plan, AUriIsTheSessionItWouldBeMappedWith) {
  AdminResponse now = mapped("db");
  now.devices[0].session = "me@10-0-0-1";
  EXPECT_TRUE(planned("db rnbd://10.0.0.1/db", now).empty());
}

TEST(Plan, NoautoIsLeftOutUnlessItIsNamed) {
  const std::string text = std::string(kDb) + " noauto";
  EXPECT_TRUE(planned(text, {}).empty());
  EXPECT_EQ(planned(text, {}, {.names = {"db"}}).size(), 1U);
  auto unknown = plan(tab(text), {}, {.names = {"dbb"}});
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text().find("'db'"), std::string::npos);
}

TEST(Plan, PathsAndSettingsChangeWhileInUse) {
  const auto steps =
      planned("db sessname=a@b path=ip:10.0.0.1 path=ip:10.0.1.1 device_path=db hold=5m,policy=RR",
              mapped("db"));
  ASSERT_EQ(steps.size(), 3U);
  EXPECT_EQ(steps[0].text, "set rnbd0 hold=5m");
  EXPECT_EQ(steps[1].action, Action::set);
  EXPECT_EQ(steps[2].text, "add the path ip:10.0.1.1 to a@b");
  AdminResponse now = mapped("db");
  now.devices[0].hold_us = 300'000'000;
  EXPECT_TRUE(planned(std::string(kDb) + " hold=5m,policy=MI", now).empty());
}

TEST(Plan, AnotherAccessModeIsRefusedWithoutForce) {
  const auto refused = planned(std::string(kDb) + " ro", mapped("db"));
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused[0].action, Action::refused);
  EXPECT_NE(refused[0].text.find("is rw, should be ro"), std::string::npos);
  EXPECT_TRUE(refused[0].requests.empty());
  const auto forced = planned(std::string(kDb) + " ro", mapped("db"), {.force = true});
  ASSERT_EQ(forced.size(), 1U);
  ASSERT_EQ(forced[0].requests.size(), 2U);
  EXPECT_EQ(forced[0].requests[0].command, AdminCommand::unmap);
  EXPECT_EQ(forced[0].requests[1].map.access_mode, "ro");
}

TEST(Plan, PruningTakesWhatIsNotListedButNeverWhatIsInUse) {
  EXPECT_TRUE(planned("", mapped("db")).empty());
  AdminResponse now = mapped("db");
  const auto gone = planned("", now, {.prune = true});
  ASSERT_EQ(gone.size(), 1U);
  EXPECT_EQ(gone[0].action, Action::unmap);
  EXPECT_FALSE(gone[0].requests[0].force);
  now.devices[0].users = 1;
  const auto kept = planned("", now, {.prune = true});
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(kept[0].action, Action::refused);
  EXPECT_TRUE(planned("", now, {.prune = true, .force = true})[0].requests[0].force);
}

TEST(Plan, UnmappingTakesAwayWhatMappingWouldAdd) {
  const AdminResponse now = mapped("db");
  const std::string line(kDb);
  const auto steps = planned(line + " nofail", now, {.unmap = true});
  ASSERT_EQ(steps.size(), 1U);
  EXPECT_EQ(steps[0].action, Action::unmap);
  EXPECT_FALSE(steps[0].nofail);  // that it is busy is one all the same
  EXPECT_EQ(steps[0].requests[0].target, "rnbd0");
  EXPECT_FALSE(steps[0].requests[0].force);
  EXPECT_TRUE(planned(line, AdminResponse{}, {.unmap = true}).empty());
  EXPECT_TRUE(planned("", now, {.unmap = true}).empty());
}

TEST(Plan, UnmappingLeavesNoautoUnlessItIsNamed) {
  const AdminResponse now = mapped("db");
  const std::string line = std::string(kDb) + " noauto";
  EXPECT_TRUE(planned(line, now, {.unmap = true}).empty());
  EXPECT_EQ(planned(line, now, {.names = {"db"}, .unmap = true}).size(), 1U);
}

TEST(Plan, PruningKeepsNoautoAndRemovesOnlyPathsOfListedSessions) {
  AdminResponse now = mapped("db");
  now.sessions[0].paths.push_back(
      {.name = "ip:1@ip:10.0.9.9", .destination = "ip:10.0.9.9", .port = 1234});
  const auto steps = planned(std::string(kDb) + " noauto", now, {.prune = true});
  ASSERT_EQ(steps.size(), 1U);
  EXPECT_EQ(steps[0].action, Action::remove_path);
  EXPECT_EQ(steps[0].requests[0].path, "ip:1@ip:10.0.9.9");
}

}  // namespace
}  // namespace rnbd::cli
