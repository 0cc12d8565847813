#include "daemon/tree/store.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace rnbd::daemon {
namespace {

Node node(Action action) {
  Node node{.path = "devices/virtual/some/file", .kind = NodeKind::attribute, .mode = 0644};
  node.action = action;
  node.device = "rnbd0";
  node.session = "blktest";
  node.path_word = "ip:10.0.2.15@ip:10.0.2.16";
  node.volume = "/dev/nullb0";
  node.counters = "rdma";
  return node;
}

// 0 when the text is taken.
int error_of(Action action, std::string_view text) {
  const auto request = request_of(node(action), text, 2);
  return request ? 0 : request.error().error;
}

AdminRequest taken(Action action, std::string_view text) {
  const auto request = request_of(node(action), text, 2);
  EXPECT_TRUE(request && *request) << text;
  return request && *request ? **request : AdminRequest{};
}

int answered(Action action, int error, bool already = false) {
  AdminResponse response;
  response.already = already;
  if (error >= 0) response.error = Problem{ProblemCode::failed, "no", "", error};
  const auto why = verdict(node(action), response);
  return why ? why->error : 0;
}

TEST(Store, MapsExclusivelyWithTheKernelsLine) {
  const AdminRequest request =
      taken(Action::map_device,
            "sessname=blktest path=ip:10.0.2.15 device_path=/dev/nullb0 access_mode=ro\n");
  EXPECT_EQ(request.command, AdminCommand::map);
  EXPECT_EQ(request.map.session, "blktest");
  EXPECT_EQ(request.map.access_mode, "ro");
  EXPECT_TRUE(request.exclusive);
}

TEST(Store, RefusesMapLinesWithTheKernelsErrno) {
  const std::string start = "sessname=a device_path=b ";
  EXPECT_EQ(error_of(Action::map_device, "bogus"), EINVAL);
  EXPECT_EQ(error_of(Action::map_device, start + "path=10.0.0.1"), EPROTONOSUPPORT);
  EXPECT_EQ(error_of(Action::map_device, start + "path=ip:nonsense"), EINVAL);
  EXPECT_EQ(error_of(Action::map_device, start + "access_mode=RW"), EINVAL);
  EXPECT_EQ(error_of(Action::map_device, start + "dest_port=65536"), EINVAL);
  EXPECT_EQ(error_of(Action::map_device, start + "nr_poll_queues=3"), EINVAL);
  std::string many = start;
  for (int i = 0; i < 7; ++i) many += " path=ip:10.0.0." + std::to_string(i);
  EXPECT_EQ(error_of(Action::map_device, many), ENOMEM);
}

TEST(Store, UnmapsNormallyOrByForceAndNothingElse) {
  EXPECT_FALSE(taken(Action::unmap_device, "normal\n").force);
  EXPECT_TRUE(taken(Action::unmap_device, "  force \n").force);
  EXPECT_EQ(taken(Action::unmap_device, "normal").target, "rnbd0");
  for (const char* text : {"bogus", "Normal", "", "normal force"})
    EXPECT_EQ(error_of(Action::unmap_device, text), EINVAL) << text;
}

TEST(Store, ResizesInSectorsOfAnyBase) {
  EXPECT_EQ(taken(Action::resize, "2048\n").size, 1U << 20);
  EXPECT_EQ(taken(Action::resize, "0x800").size, 1U << 20);
  EXPECT_EQ(taken(Action::resize, "04000").size, 1U << 20);
  for (const char* text : {"bogus", "", "-1", "0", "2048 sectors", "18014398509481985"})
    EXPECT_EQ(error_of(Action::resize, text), EINVAL) << text;
}

TEST(Store, CommandsTakeAOneAndNothingElse) {
  for (Action action :
       {Action::remap_device, Action::recover_device, Action::reconnect, Action::disconnect,
        Action::remove_path, Action::reset, Action::force_close, Action::recover_volume}) {
    EXPECT_EQ(error_of(action, "1"), 0);
    EXPECT_EQ(error_of(action, "1\n"), 0);
    for (const char* text : {"0", "2", "", "11", " 1", "1 ", "1\n\n", "one"})
      EXPECT_EQ(error_of(action, text), EINVAL) << text;
  }
}

TEST(Store, CommandsAreForTheRightThing) {
  for (auto [action, command] : {std::pair{Action::reconnect, AdminCommand::reconnect},
                                 std::pair{Action::disconnect, AdminCommand::disconnect},
                                 std::pair{Action::remove_path, AdminCommand::remove_path},
                                 std::pair{Action::reset, AdminCommand::reset}}) {
    const AdminRequest request = taken(action, "1");
    EXPECT_EQ(request.command, command);
    EXPECT_EQ(request.target, "blktest");
    EXPECT_EQ(request.path, "ip:10.0.2.15@ip:10.0.2.16");
  }
  EXPECT_EQ(taken(Action::reset, "1").counters, "rdma");
  EXPECT_EQ(taken(Action::remap_device, "1").target, "rnbd0");
  const AdminRequest close = taken(Action::force_close, "1");
  EXPECT_EQ(close.command, AdminCommand::close);
  EXPECT_EQ(close.target, "/dev/nullb0");
  EXPECT_EQ(close.session, "blktest");
}

TEST(Store, AddsPathsUpToTheFirstNewlineAtThePortOfTheSession) {
  const AdminRequest request = taken(Action::add_path, "ip:10.0.0.1@ip:10.0.0.2\nmore");
  EXPECT_EQ(request.command, AdminCommand::add_path);
  EXPECT_EQ(request.target, "blktest");
  EXPECT_EQ(request.new_path, (PathSpec{"ip:10.0.0.1", "ip:10.0.0.2", 0}));
  for (const char* text : {"", "10.0.0.1", "ip:nonsense", "bogus:1@ip:10.0.0.1"})
    EXPECT_EQ(error_of(Action::add_path, text), EINVAL) << text;  // whatever is wrong with it
}

TEST(Store, PoliciesHaveNumbersLettersAndNames) {
  const std::vector<std::pair<const char*, std::vector<const char*>>> words{
      {"round-robin", {"0", "rr", "RR\n", "rR", "round-robin", "round-robin (RR: 0)\n"}},
      {"min-inflight", {"1\n", "MI", "min-inflight\n", "min-inflightest"}},
      {"min-latency", {"2", "ml", "min-latency"}}};
  for (const auto& [policy, forms] : words)
    for (const char* form : forms) {
      const AdminRequest request = taken(Action::mpath_policy, form);
      EXPECT_EQ(request.settings, (std::vector<Setting>{{"policy", policy}})) << form;
    }
  for (const char* text : {"bogus", "", "3", "rrr", "Round-Robin", " rr", "min", "00"})
    EXPECT_EQ(error_of(Action::mpath_policy, text), EINVAL) << text;
}

TEST(Store, ReconnectAttemptsAreDecimalAndBounded) {
  for (const char* text : {"-1", "0", "9999\n"})
    EXPECT_EQ(error_of(Action::max_reconnect_attempts, text), 0) << text;
  EXPECT_EQ(taken(Action::max_reconnect_attempts, "007").settings[0].value, "7");
  for (const char* text : {"-2", "10000", "0x10", " 5", "5 ", "", "five", "99999999999999"})
    EXPECT_EQ(error_of(Action::max_reconnect_attempts, text), EINVAL) << text;
}

TEST(Store, UeventsAreTakenToNoEffect) {
  const auto request = request_of(node(Action::uevent), "change\n", 2);
  EXPECT_TRUE(request && !*request);
  EXPECT_EQ(error_of(Action::uevent, "explode"), EINVAL);
}

TEST(Store, WritesThatAreTooLongAreRefusedWhole) {
  EXPECT_EQ(error_of(Action::map_device, std::string(kWriteMax + 1, ' ')), E2BIG);
  EXPECT_EQ(error_of(Action::mpath_policy, "min-latency" + std::string(kWriteMax - 11, 'y')), 0);
}

TEST(Store, WhatIsReadOnlyIsNotWritten) {
  EXPECT_EQ(error_of(Action::none, "1"), EACCES);
  Node directory;
  EXPECT_EQ(request_of(directory, "1", 2).error().error, EISDIR);
}

TEST(Store, AnswersHaveTheKernelsErrno) {
  EXPECT_EQ(answered(Action::map_device, -1), 0);
  EXPECT_EQ(answered(Action::map_device, ENOENT), ENOENT);  // the volume
  EXPECT_EQ(answered(Action::map_device, ECONNREFUSED), ECONNRESET);
  EXPECT_EQ(answered(Action::map_device, ESHUTDOWN), ECONNABORTED);
  EXPECT_EQ(answered(Action::add_path, ESHUTDOWN), ENODEV);  // its session closed meanwhile
  EXPECT_EQ(answered(Action::map_device, -1, true), EEXIST);
  EXPECT_EQ(answered(Action::unmap_device, EBUSY), EBUSY);
  EXPECT_EQ(answered(Action::unmap_device, ENOENT), ENODEV);  // it is gone
  EXPECT_EQ(answered(Action::remap_device, -1, true), EALREADY);
  EXPECT_EQ(answered(Action::reconnect, ECONNREFUSED), ENOTCONN);
  EXPECT_EQ(answered(Action::reconnect, EBUSY), EBUSY);
  EXPECT_EQ(answered(Action::reconnect, ENOENT), ENODEV);
  EXPECT_EQ(answered(Action::add_path, -1, true), EEXIST);
  EXPECT_EQ(answered(Action::disconnect, -1, true), 0);  // repeated is fine
  EXPECT_EQ(answered(Action::reset, 0), EIO);            // an error without errno
}

}  // namespace
}  // namespace rnbd::daemon
