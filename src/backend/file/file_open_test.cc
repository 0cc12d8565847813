// Opening: who may, what may be, and what is said about it.
#include "backend/file/file_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/testing/temp_file.h"

namespace rnbd::backend {
namespace {

using block::Op;
using testing::Buffer;
using testing::DiskUser;
using testing::error_of;
using testing::kMiB;
using testing::open_device;
using testing::TempFile;

TEST(FileDevice, R8_HasOneWriter) {
  TempFile file;
  auto writer = open_device(file);
  EXPECT_EQ(error_of(FileDevice::open_path(file.path(), {})), from_errno(EBUSY));
  EXPECT_EQ(error_of(FileDevice::open_path(file.path(), {.read_only = true, .shared_lock = true})),
            from_errno(EBUSY));
  EXPECT_TRUE(FileDevice::open_path(file.path(), {.read_only = true}));
  writer.reset();
  auto reader = open_device(file, {.read_only = true, .shared_lock = true});
  EXPECT_TRUE(FileDevice::open_path(file.path(), {.read_only = true, .shared_lock = true}));
  EXPECT_EQ(error_of(FileDevice::open_path(file.path(), {})), from_errno(EBUSY));
  reader.reset();
  EXPECT_TRUE(FileDevice::open_path(file.path(), {}));
}

TEST(FileDevice, R8_RespectsALockOfAnotherProgram) {
  TempFile file;
  ASSERT_EQ(::flock(file.fd(), LOCK_SH | LOCK_NB), 0);
  EXPECT_EQ(error_of(FileDevice::open_path(file.path(), {})), from_errno(EBUSY));
}

TEST(FileDevice, S9_OpensReadOnlyWhateverTheCallerHolds) {
  TempFile file;
  UniqueFd writable(::open(file.path().c_str(), O_RDWR | O_CLOEXEC));
  auto device = FileDevice::open(std::move(writable), {.name = "ro", .read_only = true});
  ASSERT_TRUE(device);
  EXPECT_TRUE((*device)->limits().read_only);
  DiskUser disk(**device);
  Buffer data(4096);
  EXPECT_FALSE(disk.read(0, data.data(), 4096));
  for (const Op op : {Op::discard, Op::write_zeroes, Op::secure_erase}) {
    EXPECT_EQ(disk.range(op, 0, 4096), make_error_code(Errc::read_only));
  }
  EXPECT_EQ(disk.write(0, data.data(), 4096), make_error_code(Errc::read_only));
  EXPECT_FALSE(disk.flush());
}

TEST(FileDevice, TakesADescriptorThatOnlyNamesTheFile) {
  TempFile file;
  auto device = FileDevice::open(UniqueFd(::open(file.path().c_str(), O_PATH | O_CLOEXEC)),
                                 {.name = "by fd"});
  ASSERT_TRUE(device);
  DiskUser disk(**device);
  Buffer data(512, 3);
  EXPECT_FALSE(disk.write(0, data.data(), 512));
}

TEST(FileDevice, RefusesWhatIsNoDisk) {
  EXPECT_EQ(error_of(FileDevice::open_path("/tmp", {.read_only = true})), from_errno(ENOTBLK));
  EXPECT_EQ(error_of(FileDevice::open_path("/dev/null", {})), from_errno(ENOTBLK));
  EXPECT_EQ(error_of(FileDevice::open_path("/nowhere/at/all", {})), from_errno(ENOENT));
  TempFile empty(0);
  EXPECT_EQ(error_of(FileDevice::open_path(empty.path(), {})), from_errno(EINVAL));
  TempFile file;
  EXPECT_EQ(error_of(FileDevice::open_path(file.path(), {.logical_block_size = 1000})),
            from_errno(EINVAL));
}

TEST(FileDevice, DoesNotHangOnAPipe) {
  const std::string path = "/tmp/rnbd-file-test-pipe-" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(error_of(FileDevice::open_path(path, {})), from_errno(ENOTBLK));
  ::unlink(path.c_str());
}

TEST(FileDevice, ServesWholeBlocksOnly) {
  TempFile file(kMiB + 4096 + 700);
  EXPECT_EQ(open_device(file)->limits().size, kMiB + 4096 + 512);
  auto device = open_device(file, {.logical_block_size = 4096});
  EXPECT_EQ(device->limits().size, kMiB + 4096);
  EXPECT_EQ(device->limits().logical_block_size, 4096U);
  EXPECT_GE(device->limits().physical_block_size, 4096U);
  DiskUser disk(*device);
  Buffer data(8192, 5);
  EXPECT_EQ(disk.write(512, data.data(), 512), from_errno(EINVAL));
  EXPECT_EQ(disk.write(kMiB, data.data(), 8192), from_errno(EIO));
  EXPECT_FALSE(disk.write(kMiB, data.data(), 4096));
  EXPECT_FALSE(disk.read(kMiB, data.data(), 4096));
}

TEST(FileDevice, SeesAFileGrowWhenAsked) {
  TempFile file(kMiB);
  auto device = open_device(file);
  DiskUser disk(*device);
  Buffer data(4096);
  EXPECT_EQ(disk.read(kMiB, data.data(), 4096), from_errno(EIO));
  file.resize(2 * kMiB);
  EXPECT_EQ(*device->refresh_size(), 2 * kMiB);
  EXPECT_FALSE(disk.read(kMiB, data.data(), 4096));
}

TEST(FileDevice, HasOneIdentityUnderAllItsNames) {
  TempFile file, other;
  const std::string link = file.path() + "-link";
  ASSERT_EQ(::link(file.path().c_str(), link.c_str()), 0);
  const std::string one = open_device(file)->identity();
  EXPECT_EQ((*FileDevice::open_path(link, {}))->identity(), one);
  EXPECT_NE(open_device(other)->identity(), one);
  ::unlink(link.c_str());
}

}  // namespace
}  // namespace rnbd::backend
