#include "frontend/fuse/loop_device.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "frontend/fuse/loop_control.h"
#include "frontend/fuse/testing/fuse_bench.h"

namespace rnbd::fuse {
namespace {

using testing::Bench;

// The links go to a directory of the test's own, beside links to the real device nodes.
class LoopDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::fuse_works()) GTEST_SKIP() << "needs /dev/fuse";
    if (::geteuid() != 0 || !LoopDevices::available())
      GTEST_SKIP() << "needs root and /dev/loop-control";
    bench_.start();
    ASSERT_TRUE(bench_.mount);
    ASSERT_TRUE(bench_.add("disk", device_));
    bench_.on_reactor([&] {
      loops_.emplace(*bench_.reactor, LoopOptions{.device_directory = "/dev",
                                                  .busy_wait = std::chrono::milliseconds(300)});
    });
  }
  void TearDown() override {
    if (!loops_) return;
    if (attached_) {
      EXPECT_FALSE(detach(true).error);
    }
    std::promise<void> closed;
    bench_.reactor->post([&] {
      loops_->close([&] {
        loops_.reset();
        closed.set_value();
      });
    });
    closed.get_future().wait();
    bench_.stop();
  }
  Result<LoopDevice> attach(bool read_only = false) {
    std::promise<Result<LoopDevice>> done;
    bench_.reactor->post([&] {
      loops_->attach({.file = bench_.path("disk"),
                      .session = session_,
                      .volume = "a/b",
                      .read_only = read_only},
                     [&](Result<LoopDevice> result) { done.set_value(std::move(result)); });
    });
    auto result = done.get_future().get();
    if (result) attached_ = *result;
    return result;
  }
  DetachResult detach(bool force = false) {
    std::promise<DetachResult> done;
    bench_.reactor->post([&] {
      loops_->detach(*attached_, force, [&](DetachResult r) { done.set_value(std::move(r)); });
    });
    auto result = done.get_future().get();
    if (!result.error) attached_.reset();
    return result;
  }
  static int run(const std::string& command) {
    return std::system(("(" + command + ") >/dev/null 2>&1").c_str());
  }
  // Links are the machine's: tests that run beside this one have their own.
  const std::string session_ = "rnbd-loop-test-" + std::to_string(::getpid());
  block::FakeDevice device_{64 << 20};
  Bench bench_;
  std::optional<LoopDevices> loops_;
  std::optional<LoopDevice> attached_;
};

TEST_F(LoopDeviceTest, AttachesWithDirectIoAndLinksAndLeavesNothingBehind) {
  const auto device = attach();
  ASSERT_TRUE(device) << device.error().message();
  EXPECT_EQ(loop_backing_file(device->number), bench_.path("disk"));
  EXPECT_EQ(std::filesystem::read_symlink(device->name_link),
            "../../loop" + std::to_string(device->number));
  EXPECT_EQ(device->name_link, "/dev/rnbd/" + session_ + "/a!b");
  EXPECT_EQ(std::filesystem::read_symlink(device->number_link),
            "loop" + std::to_string(device->number));
  UniqueFd fd(::open(device->device.c_str(), O_RDWR | O_CLOEXEC));
  std::uint64_t size = 0;
  ASSERT_EQ(::ioctl(fd.get(), BLKGETSIZE64, &size), 0);
  EXPECT_EQ(size, 64U << 20);
  std::ifstream dio("/sys/block/loop" + std::to_string(device->number) + "/loop/dio");
  int direct = 0;
  dio >> direct;
  EXPECT_EQ(direct, 1);
  const std::string number_link = device->number_link;
  const std::string name_link = device->name_link;
  const unsigned number = device->number;
  EXPECT_EQ(detach().error, from_errno(EBUSY));  // this test has it open
  fd.reset();
  EXPECT_FALSE(detach().error);
  EXPECT_FALSE(loop_backing_file(number));
  EXPECT_FALSE(std::filesystem::is_symlink(number_link));
  EXPECT_FALSE(std::filesystem::is_symlink(name_link));
  EXPECT_FALSE(std::filesystem::exists("/dev/rnbd/" + session_));
  EXPECT_TRUE(Bench::wait_for([&] { return bench_.open_count("disk") == 0; }));
}

TEST_F(LoopDeviceTest, CarriesAFileSystemAndRefusesToDetachWhileMounted) {
  ASSERT_TRUE(attach());
  const std::string place = bench_.directory + "/fs";
  ::mkdir(place.c_str(), 0700);
  ASSERT_EQ(run("mkfs.ext4 -q -F " + attached_->device), 0);
  ASSERT_EQ(run("mount " + attached_->device + " " + place), 0);
  EXPECT_EQ(run("dd if=/dev/urandom of=" + place + "/file bs=1M count=20 conv=fsync"), 0);
  const auto busy = detach();
  EXPECT_EQ(busy.error, from_errno(EBUSY));
  ASSERT_FALSE(busy.users.empty());
  EXPECT_EQ(busy.users[0], "mounted on " + place);
  EXPECT_EQ(run("cd " + place + " && sha256sum file > " + bench_.directory + "/before"), 0);
  EXPECT_EQ(run("umount " + place), 0);
  EXPECT_GT(device_.flushes, 0U);
  EXPECT_EQ(run("e2fsck -fn " + attached_->device), 0);
  EXPECT_FALSE(detach().error);
  ASSERT_TRUE(attach());
  ASSERT_EQ(run("mount " + attached_->device + " " + place), 0);
  EXPECT_EQ(run("cd " + place + " && sha256sum -c " + bench_.directory + "/before"), 0);
  EXPECT_EQ(run("umount " + place), 0);
  EXPECT_FALSE(detach().error);
  std::filesystem::remove(bench_.directory + "/before");
  ::rmdir(place.c_str());
}

TEST_F(LoopDeviceTest, DiscardsReachTheVolumeAndReadAsZeroes) {
  ASSERT_TRUE(attach());
  const UniqueFd fd(::open(attached_->device.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  ASSERT_TRUE(fd);
  std::memset(device_.bytes.data(), 0x77, 4 << 20);
  std::uint64_t range[2] = {1 << 20, 1 << 20};
  ASSERT_EQ(::ioctl(fd.get(), BLKDISCARD, range), 0) << std::strerror(errno);
  EXPECT_GT(device_.zeroes, 0U);
  EXPECT_EQ(device_.bytes[(1 << 20) - 1], std::byte{0x77});
  for (std::size_t i = 1 << 20; i < 2 << 20; ++i) ASSERT_EQ(device_.bytes[i], std::byte{0});
  EXPECT_EQ(device_.bytes[2 << 20], std::byte{0x77});
  range[0] = 3 << 20;
  ASSERT_EQ(::ioctl(fd.get(), BLKZEROOUT, range), 0) << std::strerror(errno);
  for (std::size_t i = 3 << 20; i < 4 << 20; ++i) ASSERT_EQ(device_.bytes[i], std::byte{0});
}

TEST_F(LoopDeviceTest, FollowsTheSizeOfTheVolume) {
  ASSERT_TRUE(attach());
  device_.bytes.resize(80 << 20);
  device_.limits_for_setup().size = 80 << 20;
  std::promise<std::error_code> done;
  bench_.reactor->post(
      [&] { loops_->resize(*attached_, [&](std::error_code e) { done.set_value(e); }); });
  EXPECT_FALSE(done.get_future().get());
  const UniqueFd fd(::open(attached_->device.c_str(), O_RDONLY | O_CLOEXEC));
  std::uint64_t size = 0;
  ASSERT_EQ(::ioctl(fd.get(), BLKGETSIZE64, &size), 0);
  EXPECT_EQ(size, 80U << 20);
}

TEST_F(LoopDeviceTest, AReadOnlyDeviceRefusesWrites) {
  ASSERT_TRUE(attach(true));
  const UniqueFd fd(::open(attached_->device.c_str(), O_RDONLY | O_CLOEXEC));
  int read_only = 0;
  ASSERT_EQ(::ioctl(fd.get(), BLKROGET, &read_only), 0);
  EXPECT_EQ(read_only, 1);
  EXPECT_NE(run("dd if=/dev/zero of=" + attached_->device +
                " bs=4096 count=1 conv=notrunc,fsync oflag=direct"),
            0);
  EXPECT_EQ(device_.writes, 0U);
}

TEST_F(LoopDeviceTest, NamesWhatIsWrongWhenThereIsNoSuchFile) {
  std::promise<Result<LoopDevice>> done;
  bench_.reactor->post([&] {
    loops_->attach({.file = bench_.path("nothing"), .session = "s", .volume = "v"},
                   [&](Result<LoopDevice> result) { done.set_value(std::move(result)); });
  });
  EXPECT_EQ(done.get_future().get().error(), from_errno(ENOENT));
}

TEST_F(LoopDeviceTest, CleansUpWhatADeadDaemonLeft) {
  ASSERT_TRUE(attach());
  const LoopDevice left = *attached_;
  std::promise<unsigned> done;
  bench_.reactor->post(
      [&] { loops_->clean_up(bench_.options.mountpoint, [&](unsigned n) { done.set_value(n); }); });
  EXPECT_EQ(done.get_future().get(), 1U);
  EXPECT_FALSE(loop_backing_file(left.number));
  EXPECT_FALSE(std::filesystem::is_symlink(left.number_link));
  EXPECT_FALSE(std::filesystem::is_symlink(left.name_link));
  attached_.reset();
}

}  // namespace
}  // namespace rnbd::fuse
