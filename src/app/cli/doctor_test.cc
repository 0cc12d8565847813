#include "app/cli/doctor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "app/cli/probe.h"
#include "app/cli/terminal.h"

namespace rnbd::cli {
namespace {

namespace fs = std::filesystem;

class DoctorTest : public testing::Test {
 protected:
  DoctorTest() {
    std::string name = (fs::temp_directory_path() / "rnbd-doctor-XXXXXX").string();
    root_ = mkdtemp(name.data());
  }
  ~DoctorTest() override { fs::remove_all(root_); }
  void put(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  Machine machine() const { return Machine(root_); }
  std::string root_;
};

bool says(const Findings& findings, Severity severity, const std::string& words) {
  return std::any_of(findings.begin(), findings.end(), [&](const Finding& f) {
    return f.severity == severity && (f.text + " " + f.advice).find(words) != std::string::npos;
  });
}

TEST_F(DoctorTest, WithoutDriversThereAreNoBlockDevicesAndItSaysWhatToLoad) {
  put("/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
  const Findings findings = check_drivers(machine());
  EXPECT_TRUE(says(findings, Severity::note, "modprobe ublk_drv"));
  EXPECT_TRUE(says(findings, Severity::warning, "cannot be block devices"));
  EXPECT_EQ(status_of(findings), 7);
}

TEST_F(DoctorTest, OneWayToBlockDevicesIsEnough) {
  put("/proc/sys/kernel/osrelease", "5.15.0\n");
  put("/dev/fuse", "");
  put("/dev/loop-control", "");
  const Findings findings = check_drivers(machine());
  EXPECT_TRUE(says(findings, Severity::note, "too old"));
  EXPECT_EQ(status_of(findings), 0);
}

TEST_F(DoctorTest, LittleMemoryToPinIsAWarningWhereThereIsRdma) {
  const char* limits =
      "Limit                     Soft Limit           Hard Limit           Units\n"
      "Max open files            1024                 524288               files\n"
      "Max locked memory         8388608              8388608              bytes\n";
  put("/proc/7/limits", limits);
  Findings findings = check_limits(machine(), 7, "rnbd-client");
  EXPECT_TRUE(says(findings, Severity::warning, "1024 files"));
  EXPECT_TRUE(says(findings, Severity::note, "8M"));
  put("/sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n");
  findings = check_limits(machine(), 7, "rnbd-client");
  EXPECT_TRUE(says(findings, Severity::warning, "LimitMEMLOCK=infinity"));
  put("/proc/7/limits", "Max open files unlimited\nMax locked memory unlimited\n");
  EXPECT_EQ(status_of(check_limits(machine(), 7, "rnbd-client")), 0);
}

TEST_F(DoctorTest, RdmaPortsAreActiveAndHaveGids) {
  EXPECT_TRUE(says(check_rdma(machine()), Severity::note, "TCP"));
  const std::string port = "/sys/class/infiniband/rxe0/ports/1/";
  put(port + "state", "4: ACTIVE\n");
  put(port + "link_layer", "Ethernet\n");
  put(port + "gids/0", "0000:0000:0000:0000:0000:0000:0000:0000\n");
  EXPECT_TRUE(says(check_rdma(machine()), Severity::warning, "no GID"));
  EXPECT_TRUE(says(check_rdma(machine()), Severity::error, "modprobe rdma_ucm"));
  put(port + "gids/1", "0000:0000:0000:0000:0000:ffff:0a00:0001\n");
  put("/dev/infiniband/rdma_cm", "");
  put("/dev/infiniband/uverbs0", "");
  EXPECT_TRUE(says(check_rdma(machine()), Severity::ok, "rxe0/1 is active: Ethernet, , 1 GIDs"));
  EXPECT_EQ(status_of(check_rdma(machine())), 0);
  put(port + "state", "1: DOWN\n");
  EXPECT_TRUE(says(check_rdma(machine()), Severity::warning, "1: DOWN"));
}

TEST_F(DoctorTest, ASmallMtuIsToldAndRdmaWantsALargerOne) {
  put("/sys/class/net/eth0/mtu", "1280\n");
  EXPECT_TRUE(says(check_interface(machine(), "eth0", "10.0.0.1"), Severity::note, "1280"));
  put("/sys/class/net/eth0/mtu", "1500\n");
  EXPECT_EQ(check_interface(machine(), "eth0", "10.0.0.1")[0].severity, Severity::ok);
  put("/sys/class/infiniband/rxe0/parent", "eth0\n");
  EXPECT_TRUE(says(check_interface(machine(), "eth0", "10.0.0.1"), Severity::note, "4200"));
}

TEST_F(DoctorTest, WhatTheDaemonsSayOfThemselvesIsJudged) {
  daemon::AdminResponse answer;
  answer.daemon.program = "rnbd-client";
  answer.daemon.version = "0.9";
  answer.devices.push_back({.name = "rnbd0", .volume = "v", .state = "failed"});
  answer.opens.push_back({.volume = "w", .flush_failed = true});
  const Findings findings = check_daemon(answer, "1.0");
  EXPECT_TRUE(says(findings, Severity::warning, "0.9"));
  EXPECT_TRUE(says(findings, Severity::error, "rnbd recover rnbd0"));
  EXPECT_TRUE(says(findings, Severity::error, "rnbd server recover w"));
  EXPECT_EQ(status_of(findings), 1);
  EXPECT_NE(findings_json(findings).find("\"worst\":\"error\""), std::string::npos);
  EXPECT_NE(findings_text(findings, true).find("2 errors, 1 warnings"), std::string::npos);
}

TEST_F(DoctorTest, ASinglePathIsTheClientsToAddTo) {
  daemon::AdminResponse answer;
  answer.daemon = {.program = "rnbd-client", .version = "1.0"};
  daemon::SessionView session{.name = "a@b", .state = "connected"};
  session.paths.push_back({.name = "p", .state = "connected"});
  answer.sessions.push_back(session);
  EXPECT_TRUE(says(check_daemon(answer, "1.0"), Severity::note, "one path"));
  answer.daemon.program = "rnbd-server";
  EXPECT_FALSE(says(check_daemon(answer, "1.0"), Severity::note, "one path"));
}

TEST(Endpoint, IsTakenFromAddressesAsTheyAreWrittenAnywhere) {
  const auto text = [](std::string_view address) {
    const Endpoint e = endpoint_of(address, 1234);
    return e.host + " " + e.port;
  };
  EXPECT_EQ(text("10.0.0.1"), "10.0.0.1 1234");
  EXPECT_EQ(text("10.0.0.1:99"), "10.0.0.1 99");
  EXPECT_EQ(text("ip:fd00::1"), "fd00::1 1234");
  EXPECT_EQ(text("fd00::1"), "fd00::1 1234");
  EXPECT_EQ(text("[fd00::1]:99"), "fd00::1 99");
  EXPECT_EQ(text("host:store.example"), "store.example 1234");
  EXPECT_EQ(text("unix:/run/x"), " 1234");
}

TEST(Screen, TextIsCutToItsSize) {
  EXPECT_EQ(cut_to("abcdef\n├─x\nthird\n", 2, 2), "ab\n├─");
  EXPECT_EQ(cut_to("a\n", 80, 24), "a");
}

}  // namespace
}  // namespace rnbd::cli
