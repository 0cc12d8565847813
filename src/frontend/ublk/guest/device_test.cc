// One device: what arrives at it, what the machine sees of it, how it goes.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "backend/memory/memory_device.h"
#include "backend/null/null_device.h"
#include "base/device_links.h"
#include "base/unique_fd.h"
#include "block/testing/fake_device.h"
#include "frontend/ublk/control.h"
#include "frontend/ublk/testing/ublk_bench.h"

namespace rnbd::ublk {
namespace {

using testing::Bench;
namespace stdfs = std::filesystem;

constexpr std::size_t kMiB = 1 << 20;

struct FreeIt {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using Bytes = std::unique_ptr<std::byte[], FreeIt>;
Bytes aligned(std::size_t length, unsigned seed = 0) {
  Bytes bytes(static_cast<std::byte*>(std::aligned_alloc(4096, length)));
  for (std::size_t i = 0; i < length; ++i)
    bytes[i] = static_cast<std::byte>((i * 2654435761U + seed * 40503U) >> 13);
  return bytes;
}

std::string sysfs(const Device& device, const std::string& name) {
  std::ifstream file("/sys/block/" + stdfs::path(device.node()).filename().string() + "/" + name);
  std::string word;
  std::getline(file, word);
  return word;
}

class UblkGuest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto error = driver_usable())
      GTEST_SKIP() << failure("use the ublk driver", error).what;
    bench_ = std::make_unique<Bench>();
  }
  void TearDown() override {
    if (!bench_) return;
    if (device_) {
      EXPECT_FALSE(bench_->remove_and_drain(device_, false).error);
    }
    const auto left = list_devices();
    ASSERT_TRUE(left);
    EXPECT_TRUE(left->empty());
    EXPECT_FALSE(stdfs::exists("/dev/rnbd"));
    EXPECT_FALSE(stdfs::exists("/dev/rnbd0"));
  }
  void create(block::Device& device) {
    auto made = bench_->create(spec_, device);
    ASSERT_TRUE(made) << made.error().what;
    device_ = *made;
  }
  // Outlives the ublk device, which goes when the test is over.
  template <class T>
  T& keep(std::unique_ptr<T> volume) {
    T& kept = *volume;
    volumes_.push_back(std::move(volume));
    return kept;
  }
  backend::MemoryDevice& memory_disk(const backend::MemoryOptions& options) {
    return keep(std::move(*backend::MemoryDevice::create(options)));
  }
  block::FakeDevice& fake_disk() { return keep(std::make_unique<block::FakeDevice>(16 * kMiB)); }
  UniqueFd open(int flags) { return UniqueFd(::open(device_->node().c_str(), flags | O_CLOEXEC)); }

  Spec spec_ = [] {
    Spec spec;
    spec.session = "client@server";
    spec.volume = "pool/disk";
    spec.tag = 0x1234567890abcdef;
    return spec;
  }();
  std::vector<std::unique_ptr<block::Device>> volumes_;
  std::unique_ptr<Bench> bench_;
  std::shared_ptr<Device> device_;
};

TEST_F(UblkGuest, ReadsBackWhatWasWrittenAndSoDoesTheVolume) {
  auto& memory = memory_disk({.size = 64 * kMiB});
  create(memory);
  const UniqueFd fd = open(O_RDWR | O_DIRECT);
  ASSERT_TRUE(fd);
  unsigned seed = 1;
  std::uint64_t at = 0;
  for (const std::size_t length :
       {std::size_t{512}, std::size_t{4096}, std::size_t{65536}, std::size_t{524288}, 2 * kMiB}) {
    const Bytes out = aligned(std::max<std::size_t>(length, 4096), ++seed);
    const Bytes in = aligned(std::max<std::size_t>(length, 4096));
    ASSERT_EQ(::pwrite(fd.get(), out.get(), length, static_cast<off_t>(at)),
              static_cast<ssize_t>(length));
    ASSERT_EQ(::pread(fd.get(), in.get(), length, static_cast<off_t>(at)),
              static_cast<ssize_t>(length));
    EXPECT_EQ(std::memcmp(in.get(), out.get(), length), 0) << length;
    EXPECT_EQ(std::memcmp(&memory.bytes()[at], out.get(), length), 0) << length;
    at += 4 * kMiB + 512;
  }
}

TEST_F(UblkGuest, IsFoundByItsLinks) {
  auto& null = keep(std::move(*backend::NullDevice::create({.size = 1 << 30})));
  spec_.number = 3;
  create(null);
  EXPECT_EQ(device_->number_link(), "/dev/rnbd3");
  EXPECT_EQ(device_->name_link(), "/dev/rnbd/client@server/pool!disk");
  EXPECT_EQ(stdfs::canonical(device_->number_link()), device_->node());
  EXPECT_EQ(stdfs::canonical(device_->name_link()), device_->node());
  const auto listed = list_devices();
  ASSERT_TRUE(listed);
  ASSERT_EQ(listed->size(), 1U);
  EXPECT_EQ(listed->front().id, device_->identity().id);
  EXPECT_EQ(listed->front().tag, spec_.tag);
  EXPECT_EQ(listed->front().state, DeviceState::live);
  EXPECT_EQ(listed->front().owner, ::getpid());
  EXPECT_TRUE(listed->front().owner_alive);
  EXPECT_TRUE(listed->front().recoverable);
  EXPECT_EQ(listed->front().queue_depth, 128);
  const auto arenas = device_->arenas();
  ASSERT_EQ(arenas.size(), listed->front().queues);
  EXPECT_EQ(arenas[0].memory.size(), 128U << 19);
  EXPECT_EQ(discard_device(listed->front().id, spec_.tag, std::chrono::seconds(1)),
            from_errno(EBUSY));
}

TEST_F(UblkGuest, HasTheLimitsOfItsVolume) {
  auto& fake = fake_disk();
  block::Limits& limits = fake.limits_for_setup();
  limits.physical_block_size = 4096;
  limits.max_transfer = 126976;
  limits.max_discard = 16 * kMiB;
  limits.discard_granularity = 65536;
  limits.max_write_zeroes = 8 * kMiB;
  create(fake);
  EXPECT_EQ(sysfs(*device_, "size"), std::to_string(16 * kMiB / 512));
  EXPECT_EQ(sysfs(*device_, "ro"), "0");
  EXPECT_EQ(sysfs(*device_, "queue/logical_block_size"), "512");
  EXPECT_EQ(sysfs(*device_, "queue/physical_block_size"), "4096");
  EXPECT_EQ(sysfs(*device_, "queue/minimum_io_size"), "4096");
  EXPECT_EQ(sysfs(*device_, "queue/max_hw_sectors_kb"), "124");
  EXPECT_EQ(sysfs(*device_, "queue/discard_granularity"), "65536");
  EXPECT_EQ(sysfs(*device_, "queue/discard_max_hw_bytes"), std::to_string(16 * kMiB));
  EXPECT_EQ(sysfs(*device_, "queue/write_zeroes_max_bytes"), std::to_string(8 * kMiB));
  EXPECT_EQ(sysfs(*device_, "queue/rotational"), "0");
  EXPECT_EQ(sysfs(*device_, "queue/write_cache"), "write back");
  EXPECT_EQ(sysfs(*device_, "queue/fua"), "1");
}

TEST_F(UblkGuest, FlushFuaDiscardAndZeroesReachTheVolume) {
  auto& fake = fake_disk();
  create(fake);
  const Bytes page = aligned(4096, 7);
  UniqueFd fd = open(O_RDWR | O_DIRECT);
  ASSERT_EQ(::pwrite(fd.get(), page.get(), 4096, 0), 4096);
  EXPECT_EQ(fake.flushes, 0U);
  ASSERT_EQ(::fdatasync(fd.get()), 0);
  EXPECT_EQ(fake.flushes, 1U);
  EXPECT_EQ(fake.fuas, 0U);
  std::uint64_t range[2] = {kMiB, kMiB};
  ASSERT_EQ(::ioctl(fd.get(), BLKDISCARD, range), 0);
  EXPECT_EQ(fake.discards, 1U);
  EXPECT_EQ(fake.bytes[kMiB], std::byte{0xdd});
  EXPECT_EQ(fake.bytes[2 * kMiB - 1], std::byte{0xdd});
  EXPECT_EQ(fake.bytes[2 * kMiB], std::byte{0});
  ASSERT_EQ(::ioctl(fd.get(), BLKZEROOUT, range), 0);
  EXPECT_EQ(fake.zeroes, 1U);
  EXPECT_EQ(fake.no_unmaps, 1U);
  EXPECT_EQ(fake.bytes[kMiB], std::byte{0});
  ASSERT_EQ(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
  EXPECT_EQ(fake.zeroes, 2U);
  EXPECT_EQ(fake.no_unmaps, 1U);
  EXPECT_EQ(fake.bytes[0], std::byte{0});
  fd = open(O_RDWR | O_DIRECT | O_DSYNC);
  ASSERT_EQ(::pwrite(fd.get(), page.get(), 4096, 8192), 4096);
  EXPECT_EQ(fake.fuas, 1U);
}

TEST_F(UblkGuest, AnErrorOfTheVolumeIsTheErrorOfTheRequestAlone) {
  auto& fake = fake_disk();
  create(fake);
  const Bytes page = aligned(4096, 7);
  const UniqueFd fd = open(O_RDWR | O_DIRECT);
  fake.fail_with = EIO;
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 0), -1);
  EXPECT_EQ(errno, EIO);
  fake.fail_with = ENOSPC;
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 0), -1);
  EXPECT_EQ(errno, ENOSPC);
  fake.fail_with = 0;
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 0), 4096);
}

TEST_F(UblkGuest, AReadOnlyDeviceRefusesWrites) {
  auto& memory = memory_disk({.size = 16 * kMiB, .read_only = true});
  create(memory);
  EXPECT_EQ(sysfs(*device_, "ro"), "1");
  const UniqueFd fd = open(O_RDWR | O_DIRECT);
  if (fd) {
    const Bytes page = aligned(4096, 7);
    EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 0), -1);
    EXPECT_EQ(errno, EPERM);
  }
}

TEST_F(UblkGuest, BlocksOf4096AreTheSmallestIo) {
  auto& memory = memory_disk({.size = 16 * kMiB, .logical_block_size = 4096});
  create(memory);
  EXPECT_EQ(sysfs(*device_, "queue/logical_block_size"), "4096");
  const UniqueFd fd = open(O_RDWR | O_DIRECT);
  const Bytes page = aligned(4096, 9);
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 512, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 4096), 4096);
  EXPECT_EQ(std::memcmp(&memory.bytes()[4096], page.get(), 4096), 0);
}

TEST_F(UblkGuest, BlocksLargerThanAPageAreRefusedInWords) {
  auto& memory = memory_disk({.size = 16 * kMiB, .logical_block_size = 65536});
  const auto made = bench_->create(spec_, memory);
  ASSERT_FALSE(made);
  EXPECT_NE(made.error().what.find("larger than a page"), std::string::npos);
}

TEST_F(UblkGuest, FindsThePartitionsOfItsVolume) {
  auto& memory = memory_disk({.size = 64 * kMiB});
  std::span<std::byte> bytes = memory.bytes();
  const unsigned char entry[16] = {0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x40, 0, 0};
  std::memcpy(&bytes[446], entry, sizeof entry);
  bytes[510] = std::byte{0x55};
  bytes[511] = std::byte{0xaa};
  create(memory);
  const std::string node = stdfs::path(device_->node()).filename();
  EXPECT_EQ(sysfs(*device_, node + "p1/start"), "2048");
  EXPECT_EQ(sysfs(*device_, node + "p1/size"), "16384");
}

TEST_F(UblkGuest, FollowsANewSizeOrSaysThatTheDriverCannot) {
  auto& memory = memory_disk({.size = 64 * kMiB});
  create(memory);
  const auto error = bench_->resize(device_, 128 * kMiB);
  const auto control = Control::open();
  ASSERT_TRUE(control);
  const bool can = (control->features() & abi::kUpdateSize) != 0;
  EXPECT_EQ(error, can ? std::error_code{} : from_errno(EOPNOTSUPP));
  EXPECT_EQ(sysfs(*device_, "size"), std::to_string((can ? 128 : 64) * kMiB / 512));
}

TEST_F(UblkGuest, ServesSixteenJobsAtOnce) {
  constexpr std::size_t kJobs = 16, kRegion = 2 * kMiB, kBlock = 16384;
  auto& memory = memory_disk({.size = kJobs * kRegion});
  create(memory);
  std::atomic<unsigned> faults{0};
  std::vector<std::thread> jobs;
  for (std::size_t job = 0; job < kJobs; ++job) {
    jobs.emplace_back([&, job] {
      const UniqueFd fd = open(O_RDWR | O_DIRECT);
      const Bytes in = aligned(kBlock);
      for (std::size_t i = 0; i < 24; ++i) {
        const std::size_t at = job * kRegion + (i * 37 % 128) * kBlock;
        const Bytes out = aligned(kBlock, static_cast<unsigned>(job * 1000 + i));
        const bool good = ::pwrite(fd.get(), out.get(), kBlock, static_cast<off_t>(at)) == kBlock &&
                          ::pread(fd.get(), in.get(), kBlock, static_cast<off_t>(at)) == kBlock &&
                          std::memcmp(in.get(), out.get(), kBlock) == 0;
        if (!good) ++faults;
      }
    });
  }
  for (auto& job : jobs) job.join();
  EXPECT_EQ(faults, 0U);
}

TEST_F(UblkGuest, IsNotRemovedWhileSomebodyHasItAndNamesHim) {
  auto& memory = memory_disk({.size = 16 * kMiB});
  spec_.busy_wait = std::chrono::milliseconds(50);
  create(memory);
  UniqueFd fd = open(O_RDWR | O_DIRECT);
  const auto busy = bench_->remove_and_drain(device_, false);
  EXPECT_EQ(busy.error, from_errno(EBUSY));
  ASSERT_EQ(busy.users.size(), 1U);
  EXPECT_EQ(busy.users[0].rfind("open by " + std::to_string(::getpid()), 0), 0U);
  EXPECT_TRUE(stdfs::is_symlink("/dev/rnbd0"));
  const Bytes page = aligned(4096, 9);
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 4096), 4096);  // and it still works
  fd.reset();
  EXPECT_FALSE(bench_->remove_and_drain(device_, false).error);
}

TEST_F(UblkGuest, IsRemovedByForceThoughItIsOpen) {
  auto& memory = memory_disk({.size = 16 * kMiB});
  create(memory);
  const UniqueFd fd = open(O_RDWR | O_DIRECT);
  EXPECT_FALSE(bench_->remove_and_drain(device_, true).error);
  const Bytes page = aligned(4096, 9);
  EXPECT_EQ(::pwrite(fd.get(), page.get(), 4096, 4096), -1);
  EXPECT_FALSE(stdfs::exists("/dev/rnbd0"));
}

TEST_F(UblkGuest, IsRemovedByForceThoughTheVolumeHangsAndWhatHungGetsAnError) {
  auto& fake = fake_disk();
  create(fake);
  fake.hold();
  std::atomic<unsigned> refused{0};
  std::vector<std::thread> writers;
  for (int i = 0; i < 8; ++i) {
    writers.emplace_back([&, i] {
      const UniqueFd fd = open(O_RDWR | O_DIRECT);
      const Bytes page = aligned(4096, 9);
      if (::pwrite(fd.get(), page.get(), 4096, 4096 * i) == -1 && errno == EIO) ++refused;
    });
  }
  while (fake.waiting < 8) std::this_thread::yield();
  EXPECT_FALSE(bench_->remove(device_, true).error);
  for (auto& writer : writers) writer.join();
  EXPECT_EQ(refused, 8U);
  EXPECT_EQ(fake.waiting, 8U);  // the volume still has them: their memory stays
  fake.let_go();
  bench_->drain(device_);
  EXPECT_EQ(fake.open_queues(), 0U);
}

TEST_F(UblkGuest, AVolumeThatHangsAtTheStartMakesNoDevice) {
  auto& fake = fake_disk();
  fake.hold();
  spec_.patience = std::chrono::milliseconds(300);
  std::promise<Bench::Made> promise;
  std::thread maker([&] { promise.set_value(bench_->create(spec_, fake)); });
  while (fake.waiting == 0) std::this_thread::yield();  // the partition scan
  while (!list_devices()->empty()) std::this_thread::yield();
  fake.let_go();
  maker.join();
  const auto made = promise.get_future().get();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().error, from_errno(ETIMEDOUT));
  EXPECT_EQ(fake.open_queues(), 0U);
}

TEST_F(UblkGuest, AVolumeThatCannotBeOpenedMakesNoDevice) {
  auto& fake = fake_disk();
  fake.fail_open = true;
  const auto made = bench_->create(spec_, fake);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().error, from_errno(ENOMEM));
}

TEST_F(UblkGuest, SaysWhenSomebodyElseStoppedIt) {
  auto& memory = memory_disk({.size = 16 * kMiB});
  create(memory);
  std::promise<void> gone;
  bench_->home().post([&] { device_->set_on_gone([&] { gone.set_value(); }); });
  auto control = Control::open();
  ASSERT_TRUE(control);
  EXPECT_FALSE(control->stop(device_->identity().id, std::chrono::seconds(10)));
  gone.get_future().wait();
  EXPECT_FALSE(bench_->remove_and_drain(device_, false).error);
}

TEST_F(UblkGuest, OperationsTakeTurns) {
  auto& memory = memory_disk({.size = 16 * kMiB});
  create(memory);
  std::promise<int> resized;
  std::promise<std::error_code> removed;
  bench_->home().post([&] {
    device_->resize(32 * kMiB, [&](std::error_code) { resized.set_value(1); });
    device_->remove(false, [&](const RemoveResult& result) { removed.set_value(result.error); });
  });
  EXPECT_EQ(resized.get_future().get(), 1);
  EXPECT_FALSE(removed.get_future().get());
  bench_->drain(device_);
}

TEST_F(UblkGuest, AHundredTimesComeAndGoneLeavesNothing) {
  auto& null = keep(std::move(*backend::NullDevice::create({.size = 1 << 30, .fill = true})));
  const auto descriptors = [] {
    return std::distance(stdfs::directory_iterator("/proc/self/fd"), stdfs::directory_iterator());
  };
  std::ptrdiff_t before = 0;
  for (int i = 0; i < 100; ++i) {
    create(null);
    const auto removed = bench_->remove_and_drain(device_, i % 2 == 1);
    ASSERT_FALSE(removed.error) << i << ": " << removed.error.message();
    if (i == 0) before = descriptors();
  }
  EXPECT_EQ(descriptors(), before);
  for (const auto& entry : stdfs::directory_iterator("/sys/block"))
    EXPECT_NE(entry.path().filename().string().rfind("ublkb", 0), 0U);
}

}  // namespace
}  // namespace rnbd::ublk
