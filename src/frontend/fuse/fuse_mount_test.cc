#include "frontend/fuse/fuse_mount.h"

#include <dirent.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include <cstring>

#include "base/random.h"
#include "frontend/fuse/mountpoint.h"
#include "frontend/fuse/testing/fuse_bench.h"

namespace rnbd::fuse {
namespace {

using testing::Bench;

class FuseMountTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::fuse_works()) GTEST_SKIP() << "needs /dev/fuse";
    bench_.start();
    ASSERT_TRUE(bench_.mount);
    ASSERT_TRUE(bench_.add("disk", device_));
  }
  void TearDown() override {
    device_.let_go();
    bench_.stop();
    EXPECT_EQ(device_.open_queues(), 0U);
  }
  UniqueFd open(const std::string& name, int flags) {
    return UniqueFd(::open(bench_.path(name).c_str(), flags | O_CLOEXEC));
  }
  block::FakeDevice device_;
  Bench bench_;
};

ssize_t write_at(const UniqueFd& fd, const void* data, std::size_t size, std::uint64_t offset) {
  return ::pwrite(fd.get(), data, size, static_cast<off_t>(offset));
}

TEST_F(FuseMountTest, ShowsVolumesAsFilesOfTheirSizeAndMode) {
  block::FakeDevice other(1 << 20);
  ASSERT_TRUE(bench_.add("!dev!ram0", other, true));
  struct stat st {};
  ASSERT_EQ(::stat(bench_.path("disk").c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 8 << 20);
  EXPECT_EQ(st.st_mode, S_IFREG | 0600U);
  ASSERT_EQ(::stat(bench_.path("!dev!ram0").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode, S_IFREG | 0400U);
  std::vector<std::string> names;
  DIR* directory = ::opendir(bench_.options.mountpoint.c_str());
  ASSERT_NE(directory, nullptr);
  while (const dirent* entry = ::readdir(directory)) names.push_back(entry->d_name);
  ::closedir(directory);
  EXPECT_EQ(names, (std::vector<std::string>{".", "..", "disk", "!dev!ram0"}));
  EXPECT_FALSE(bench_.remove("!dev!ram0").get());
  EXPECT_NE(::stat(bench_.path("!dev!ram0").c_str(), &st), 0);
}

TEST_F(FuseMountTest, ReadsBackWhatWasWrittenAtAnyByte) {
  const std::uint64_t seed = 31337;
  SCOPED_TRACE(seed);
  SeededRandom random(seed);
  const UniqueFd fd = open("disk", O_RDWR);
  ASSERT_TRUE(fd);
  std::vector<std::byte> expected(device_.bytes.size());
  for (int i = 0; i < 300; ++i) {
    const std::uint64_t offset = random.below(expected.size());
    const std::uint64_t length = 1 + random.below(std::min<std::uint64_t>(
                                         expected.size() - offset, i % 10 == 0 ? 2 << 20 : 6000));
    std::memset(expected.data() + offset, static_cast<int>(random.next() & 0xff), length);
    ASSERT_EQ(write_at(fd, expected.data() + offset, length, offset), static_cast<ssize_t>(length));
  }
  EXPECT_EQ(device_.bytes, expected);
  std::vector<std::byte> got(expected.size());
  for (int i = 0; i < 300; ++i) {
    const std::uint64_t offset = random.below(expected.size());
    const std::uint64_t length =
        1 + random.below(std::min<std::uint64_t>(expected.size() - offset, 3 << 20));
    ASSERT_EQ(::pread(fd.get(), got.data(), length, static_cast<off_t>(offset)),
              static_cast<ssize_t>(length));
    ASSERT_EQ(std::memcmp(got.data(), expected.data() + offset, length), 0);
  }
}

TEST_F(FuseMountTest, UnalignedWritersOfTheSameBlocksLoseNothing) {
  constexpr std::size_t kWriters = 4;
  constexpr std::size_t kPiece = 100;  // several writers meet in every block
  std::vector<std::thread> writers;
  for (std::size_t writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      const UniqueFd fd = open("disk", O_RDWR);
      const std::vector<std::byte> data(kPiece, static_cast<std::byte>(writer + 1));
      for (std::size_t i = writer; i < 1000; i += kWriters) {
        EXPECT_EQ(write_at(fd, data.data(), kPiece, i * kPiece), static_cast<ssize_t>(kPiece));
      }
    });
  }
  for (auto& writer : writers) writer.join();
  for (std::size_t i = 0; i < 1000 * kPiece; ++i) {
    ASSERT_EQ(device_.bytes[i], static_cast<std::byte>(i / kPiece % kWriters + 1)) << i;
  }
}

TEST_F(FuseMountTest, FsyncIsAFlushAndSynchronousWritesAreFua) {
  const UniqueFd fd = open("disk", O_RDWR);
  std::vector<std::byte> data(4096);
  ASSERT_EQ(write_at(fd, data.data(), 4096, 0), 4096);
  EXPECT_EQ(device_.flushes, 0U);
  ASSERT_EQ(::fsync(fd.get()), 0);
  EXPECT_EQ(device_.flushes, 1U);
  ASSERT_EQ(::fdatasync(fd.get()), 0);
  EXPECT_EQ(device_.flushes, 2U);
  EXPECT_EQ(device_.fuas, 0U);
  const UniqueFd sync = open("disk", O_RDWR | O_DSYNC);
  ASSERT_EQ(write_at(sync, data.data(), 4096, 0), 4096);
  EXPECT_GE(device_.fuas + device_.flushes, 3U);
}

TEST_F(FuseMountTest, PunchedHolesAndZeroRangesReadAsZeroes) {
  const UniqueFd fd = open("disk", O_RDWR);
  const std::vector<std::byte> data(65536, std::byte{0x55});
  ASSERT_EQ(write_at(fd, data.data(), data.size(), 0), 65536);
  ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
  EXPECT_EQ(device_.zeroes, 1U);
  EXPECT_EQ(device_.no_unmaps, 0U);
  ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 20001, 5000), 0);
  EXPECT_EQ(device_.no_unmaps, 1U);
  for (std::size_t i = 0; i < data.size(); ++i) {
    const bool zero = (i >= 4096 && i < 12288) || (i >= 20001 && i < 25001);
    ASSERT_EQ(device_.bytes[i], zero ? std::byte{0} : std::byte{0x55}) << i;
  }
  EXPECT_NE(::fallocate(fd.get(), 0, 0, 4096), 0);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

TEST_F(FuseMountTest, EndsWhereTheDeviceEnds) {
  const UniqueFd fd = open("disk", O_RDWR);
  const std::uint64_t size = device_.bytes.size();
  std::vector<std::byte> data(1024, std::byte{1});
  EXPECT_EQ(::pread(fd.get(), data.data(), 1024, static_cast<off_t>(size)), 0);
  EXPECT_EQ(::pread(fd.get(), data.data(), 1024, static_cast<off_t>(size - 100)), 100);
  EXPECT_EQ(write_at(fd, data.data(), 1024, size - 100), 100);
  EXPECT_EQ(write_at(fd, data.data(), 1024, size), -1);
  EXPECT_EQ(errno, ENOSPC);
}

TEST_F(FuseMountTest, IsNoPlaceToCreateRenameOrResizeFiles) {
  const UniqueFd fd = open("disk", O_RDWR);
  EXPECT_EQ(::ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(fd.get(), 8 << 20), 0);
  EXPECT_EQ(::unlink(bench_.path("disk").c_str()), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::open(bench_.path("new").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::rename(bench_.path("disk").c_str(), bench_.path("other").c_str()), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::mkdir(bench_.path("dir").c_str(), 0700), -1);
  EXPECT_EQ(errno, EPERM);
}

TEST_F(FuseMountTest, AReadOnlyVolumeOpensForReadingOnly) {
  block::FakeDevice other(1 << 20);
  ASSERT_TRUE(bench_.add("ro", other, true));
  EXPECT_FALSE(open("ro", O_RDWR));
  EXPECT_TRUE(open("ro", O_RDONLY));
  EXPECT_FALSE(bench_.remove("ro").get());
}

TEST_F(FuseMountTest, ErrorsOfTheDeviceReachTheCaller) {
  const UniqueFd fd = open("disk", O_RDWR);
  std::byte data[512];
  device_.fail_with = EIO;
  EXPECT_EQ(::pread(fd.get(), data, 512, 0), -1);
  EXPECT_EQ(errno, EIO);
  device_.fail_with = ENOSPC;
  EXPECT_EQ(write_at(fd, data, 512, 0), -1);
  EXPECT_EQ(errno, ENOSPC);
  device_.fail_with = 0;
}

TEST_F(FuseMountTest, KeepsManyRequestsUnderWayAndOthersInTheKernel) {
  device_.hold();
  std::vector<std::thread> readers;
  for (int i = 0; i < 80; ++i) {  // more than there are slots
    readers.emplace_back([&] {
      const UniqueFd fd = open("disk", O_RDONLY);
      std::byte data[4096];
      EXPECT_EQ(::pread(fd.get(), data, sizeof data, 0), 4096);
    });
  }
  EXPECT_TRUE(Bench::wait_for([&] { return device_.waiting >= 40; }));
  EXPECT_LE(device_.waiting, 64U);
  device_.let_go();
  for (auto& reader : readers) reader.join();
}

TEST_F(FuseMountTest, RemovingAVolumeWaitsForItsRequestsAndFailsThoseWhoHaveItOpen) {
  const UniqueFd fd = open("disk", O_RDWR);
  EXPECT_EQ(bench_.open_count("disk"), 1U);
  device_.hold();
  std::byte data[512];
  std::thread reader([&] {
    std::byte mine[512];
    EXPECT_EQ(::pread(fd.get(), mine, 512, 0), 512);
  });
  ASSERT_TRUE(Bench::wait_for([&] { return device_.waiting == 1; }));
  auto removed = bench_.remove("disk");
  EXPECT_EQ(bench_.open_count("disk"), 0U);
  EXPECT_EQ(removed.wait_for(std::chrono::milliseconds(0)), std::future_status::timeout);
  device_.let_go();
  EXPECT_FALSE(removed.get());
  reader.join();
  EXPECT_EQ(device_.open_queues(), 0U);
  EXPECT_EQ(::pread(fd.get(), data, 512, 0), -1);
  EXPECT_EQ(errno, EIO);
  EXPECT_FALSE(open("disk", O_RDONLY));
}

TEST_F(FuseMountTest, RefusesNamesThatAreNoFileNamesAndNamesTaken) {
  EXPECT_EQ(bench_.add("disk", device_).error(), from_errno(EEXIST));
  for (const std::string& name : {std::string(), std::string("."), std::string(".."),
                                  std::string("a/b"), std::string(256, 'n')}) {
    EXPECT_EQ(bench_.add(name, device_).error(), from_errno(EINVAL)) << name;
  }
  EXPECT_EQ(bench_.remove("nothing").get(), from_errno(ENOENT));
  EXPECT_EQ(file_name("/dev/ram0"), "!dev!ram0");
}

TEST_F(FuseMountTest, ShowsANewSizeOfTheDevice) {
  device_.bytes.resize(9 << 20);
  device_.limits_for_setup().size = 9 << 20;
  struct stat st {};
  ASSERT_EQ(::stat(bench_.path("disk").c_str(), &st), 0);
  EXPECT_EQ(st.st_size, 9 << 20);
  const UniqueFd fd = open("disk", O_RDWR);
  std::byte data[512] = {};
  EXPECT_EQ(write_at(fd, data, 512, 8 << 20), 512);
}

TEST_F(FuseMountTest, UnmountsWhileBusyAndFreesTheMountpoint) {
  const UniqueFd fd = open("disk", O_RDWR);
  bench_.stop();
  EXPECT_FALSE(is_mounted(bench_.options.mountpoint));
  std::byte data[512];
  EXPECT_EQ(::pread(fd.get(), data, 512, 0), -1);
}

TEST_F(FuseMountTest, HearsOfSomebodyElseUnmountingIt) {
  std::promise<void> heard;
  bench_.on_reactor([&] { bench_.mount->set_on_unmounted([&] { heard.set_value(); }); });
  if (::umount2(bench_.options.mountpoint.c_str(), 0) != 0) GTEST_SKIP() << "needs root to unmount";
  heard.get_future().wait();
  EXPECT_FALSE(bench_.on_reactor([&] { return bench_.mount->mounted(); }));
}

TEST(FuseMount, RefusesAPlaceSomebodyIsMountedOnAndAFile) {
  if (!testing::fuse_works()) GTEST_SKIP() << "needs /dev/fuse";
  Bench one;
  one.start();
  ASSERT_TRUE(one.mount);
  EXPECT_EQ(prepare_mountpoint(one.options.mountpoint).error(), from_errno(EBUSY));
  one.stop();
  EXPECT_TRUE(prepare_mountpoint(one.options.mountpoint));
  EXPECT_EQ(prepare_mountpoint("/etc/passwd").error(), from_errno(ENOTDIR));
  EXPECT_EQ(prepare_mountpoint(one.directory + "/no/such").error(), from_errno(ENOENT));
}

TEST(FuseMount, TakesOverTheMountpointOfADaemonThatWasKilled) {
  if (!testing::fuse_works()) GTEST_SKIP() << "needs /dev/fuse";
  char pattern[] = "/tmp/rnbd-fuse-dead-XXXXXX";
  const std::string directory = ::mkdtemp(pattern);
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // a daemon that mounts and dies without a word
    auto reactor = Reactor::create({});
    auto mount = Mount::create(**reactor, {.mountpoint = directory});
    const char byte = mount ? 'y' : 'n';
    (void)!::write(ready[1], &byte, 1);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  char byte = 0;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  ::close(ready[0]);
  ::close(ready[1]);
  ASSERT_EQ(byte, 'y');
  struct stat st {};
  EXPECT_TRUE(
      Bench::wait_for([&] { return ::stat(directory.c_str(), &st) != 0 && errno == ENOTCONN; }));
  EXPECT_TRUE(prepare_mountpoint(directory));
  EXPECT_EQ(::stat(directory.c_str(), &st), 0);
  ::rmdir(directory.c_str());
}

}  // namespace
}  // namespace rnbd::fuse
