// A real block device under the file backend: a loop device over a temporary file.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "backend/file/file_device.h"
#include "backend/testing/disk_user.h"

namespace rnbd::backend {
namespace {

using block::Op;
using testing::Buffer;
using testing::DiskUser;

constexpr std::uint64_t kMiB = 1 << 20;

class LoopDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(file_fd_ = ::mkstemp(file_.data()), 0);
    ASSERT_EQ(::ftruncate(file_fd_, 16 * kMiB), 0);
    // The number that is free may be gone a moment later: other tests run beside this one.
    for (int attempt = 0; attempt < 16 && !loop_; ++attempt) attach();
    if (!loop_) GTEST_SKIP() << "cannot set up a loop device here";
  }
  void attach() {
    UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = control ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
    if (number < 0) return;
    path_ = "/dev/loop" + std::to_string(number);
    loop_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    loop_config config{};
    config.fd = static_cast<__u32>(file_fd_);
    config.block_size = 4096;
    if (loop_ && ::ioctl(loop_.get(), LOOP_CONFIGURE, &config) != 0) loop_.reset();
  }
  void TearDown() override {
    if (loop_) ::ioctl(loop_.get(), LOOP_CLR_FD);
    if (file_fd_ >= 0) ::close(file_fd_);
    ::unlink(file_.c_str());
  }
  std::uint64_t allocated() const {
    struct stat status {};
    EXPECT_EQ(::fstat(file_fd_, &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  std::string file_ = "/tmp/rnbd-loop-test-XXXXXX";
  int file_fd_ = -1;
  std::string path_;
  UniqueFd loop_;
};

TEST_F(LoopDevice, IsServedWithItsOwnBlockSizeAndLimits) {
  auto device = FileDevice::open_path(path_, {});
  ASSERT_TRUE(device);
  const auto limits = (*device)->limits();
  EXPECT_EQ(limits.size, 16 * kMiB);
  EXPECT_EQ(limits.logical_block_size, 4096U);
  EXPECT_GT(limits.max_discard, 0U);
  EXPECT_GE(limits.discard_granularity, 4096U);
  EXPECT_EQ(limits.max_secure_erase, 0U);
  EXPECT_TRUE((*device)->direct());
}

TEST_F(LoopDevice, ReadsWritesFlushesDiscardsAndZeroes) {
  auto device = FileDevice::open_path(path_, {});
  ASSERT_TRUE(device);
  DiskUser disk(**device);
  Buffer out(4 * kMiB), in(4 * kMiB), odd(8192, 0, 5);
  out.fill_pattern(1);
  EXPECT_FALSE(disk.write(0, out.data(), out.size(), block::kFua | block::kPreflush));
  EXPECT_FALSE(disk.flush());
  EXPECT_FALSE(disk.read(0, in.data(), in.size()));
  EXPECT_TRUE(in.same(out));
  EXPECT_FALSE(disk.read(4096, odd.data(), odd.size()));
  EXPECT_EQ(std::memcmp(odd.data(), out.data() + 4096, 8192), 0);

  const auto before = allocated();
  EXPECT_FALSE(disk.range(Op::discard, 0, kMiB));
  EXPECT_LT(allocated(), before);
  EXPECT_FALSE(disk.range(Op::write_zeroes, kMiB, kMiB));
  EXPECT_FALSE(disk.range(Op::write_zeroes, 2 * kMiB, kMiB, block::kNoUnmap | block::kFua));
  EXPECT_FALSE(disk.read(0, in.data(), in.size()));
  for (std::size_t i = kMiB; i < 3 * kMiB; ++i) ASSERT_EQ(in.data()[i], std::byte{0}) << i;
  EXPECT_EQ(std::memcmp(in.data() + 3 * kMiB, out.data() + 3 * kMiB, kMiB), 0);
  EXPECT_EQ(disk.range(Op::secure_erase, 0, 4096), from_errno(EOPNOTSUPP));
  EXPECT_EQ(disk.read(512, odd.data(), 512), from_errno(EINVAL));
}

TEST_F(LoopDevice, R8_HasOneWriter) {
  auto writer = FileDevice::open_path(path_, {});
  ASSERT_TRUE(writer);
  auto second = FileDevice::open_path(path_, {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error(), from_errno(EBUSY));
  auto reader = FileDevice::open_path(path_, {.read_only = true});
  ASSERT_TRUE(reader);
  EXPECT_EQ((*reader)->identity(), (*writer)->identity());
  EXPECT_TRUE((*reader)->limits().read_only);
  writer->reset();
  EXPECT_TRUE(FileDevice::open_path(path_, {}));
}

TEST_F(LoopDevice, SeesItsSizeChange) {
  auto device = FileDevice::open_path(path_, {});
  ASSERT_TRUE(device);
  ASSERT_EQ(::ftruncate(file_fd_, 32 * kMiB), 0);
  ASSERT_EQ(::ioctl(loop_.get(), LOOP_SET_CAPACITY, 0), 0);
  EXPECT_EQ(*(*device)->refresh_size(), 32 * kMiB);
}

}  // namespace
}  // namespace rnbd::backend
