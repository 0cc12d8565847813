#include "backend/memory/memory_device.h"

#include <gtest/gtest.h>

#include <thread>

#include "backend/testing/disk_user.h"
#include "base/random.h"

namespace rnbd::backend {
namespace {

using block::Op;
using testing::Buffer;
using testing::DiskUser;

TEST(MemoryDevice, IsZeroAtFirstAndKeepsWhatIsWritten) {
  auto device = *MemoryDevice::create({});
  DiskUser disk(*device);
  Buffer out(8192), in(8192, 0xff);
  EXPECT_FALSE(disk.read(512, in.data(), 8192));
  EXPECT_TRUE(in.all(0));
  out.fill_pattern(1);
  EXPECT_FALSE(disk.write(512, out.data(), 8192, block::kFua | block::kPreflush));
  EXPECT_FALSE(disk.flush());
  EXPECT_FALSE(disk.read(512, in.data(), 8192));
  EXPECT_TRUE(in.same(out));
}

TEST(MemoryDevice, GathersAndScattersSegmentsOfAnySize) {
  auto device = *MemoryDevice::create({});
  DiskUser disk(*device);
  Buffer out(4096);
  out.fill_pattern(2);
  auto write = disk.make(Op::write, 4096, 4096);
  disk.set_parts(
      *write,
      {{out.data(), 1}, {out.data() + 1, 0}, {out.data() + 1, 3000}, {out.data() + 3001, 1095}});
  EXPECT_FALSE(disk.run(*write));
  EXPECT_EQ(std::memcmp(device->bytes().data() + 4096, out.data(), 4096), 0);
  Buffer in(4096);
  auto read = disk.make(Op::read, 4096, 4096);
  disk.set_parts(*read, {{in.data(), 2048}, {in.data() + 2048, 2048}});
  EXPECT_FALSE(disk.run(*read));
  EXPECT_TRUE(in.same(out));
}

TEST(MemoryDevice, ErasesExactlyTheRangeAndGivesPagesBack) {
  for (const Op op : {Op::discard, Op::write_zeroes, Op::secure_erase}) {
    auto device = *MemoryDevice::create({.size = 1 << 20});
    DiskUser disk(*device);
    Buffer ones(1 << 20, 0x11);
    EXPECT_FALSE(disk.write(0, ones.data(), ones.size()));
    EXPECT_EQ(device->resident_bytes(), 1U << 20);
    EXPECT_FALSE(disk.range(op, 512, (1 << 19)));
    EXPECT_LE(device->resident_bytes(), (1U << 19) + 8192);
    for (std::size_t i = 0; i < (1U << 20); ++i) {
      const bool inside = i >= 512 && i < 512 + (1U << 19);
      ASSERT_EQ(device->bytes()[i], std::byte{static_cast<unsigned char>(inside ? 0 : 0x11)}) << i;
    }
  }
}

TEST(MemoryDevice, KeepsPagesWhenToldNotToUnmap) {
  auto device = *MemoryDevice::create({.size = 1 << 20});
  DiskUser disk(*device);
  EXPECT_FALSE(disk.range(Op::write_zeroes, 0, 1 << 20, block::kNoUnmap));
  EXPECT_EQ(device->resident_bytes(), 1U << 20);
}

TEST(MemoryDevice, MatchesAModelUnderRandomRequests) {
  constexpr std::size_t kSize = 256 << 10;
  auto device = *MemoryDevice::create({.size = kSize});
  DiskUser disk(*device);
  std::vector<std::byte> model(kSize);
  SeededRandom random(42);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t length = (1 + random.below(32)) * 512;
    const std::uint64_t offset = random.below((kSize - length) / 512 + 1) * 512;
    Buffer data(length);
    switch (random.below(4)) {
      case 0:
        data.fill_pattern(random.next());
        ASSERT_FALSE(disk.write(offset, data.data(), length));
        std::memcpy(model.data() + offset, data.data(), length);
        break;
      case 1:
        ASSERT_FALSE(
            disk.range(random.below(2) == 0 ? Op::discard : Op::write_zeroes, offset, length));
        std::memset(model.data() + offset, 0, length);
        break;
      default:
        ASSERT_FALSE(disk.read(offset, data.data(), length));
        ASSERT_EQ(std::memcmp(model.data() + offset, data.data(), length), 0) << i;
    }
  }
}

TEST(MemoryDevice, IsSharedByLoops) {
  auto device = *MemoryDevice::create({.size = 1 << 20});
  std::vector<std::thread> users;
  for (std::uint64_t u = 0; u < 3; ++u) {
    users.emplace_back([&, u] {
      DiskUser disk(*device);
      Buffer data(4096, static_cast<int>(u + 1));
      for (std::uint64_t i = 0; i < 60; ++i)
        EXPECT_FALSE(disk.write((i * 3 + u) * 4096, data.data(), 4096));
    });
  }
  for (auto& user : users) user.join();
  for (std::size_t i = 0; i < 180; ++i) EXPECT_EQ(device->bytes()[i * 4096], std::byte(i % 3 + 1));
}

TEST(MemoryDevice, ChecksEveryRequest) {
  auto device = *MemoryDevice::create({.size = 1 << 20, .logical_block_size = 4096});
  DiskUser disk(*device);
  Buffer data(8192);
  EXPECT_EQ(disk.read(512, data.data(), 512), from_errno(EINVAL));
  EXPECT_EQ(disk.read((1 << 20) - 4096, data.data(), 8192), from_errno(EIO));
  EXPECT_EQ(disk.range(Op::discard, (1 << 20) - 4096, 8192), from_errno(EIO));
}

}  // namespace
}  // namespace rnbd::backend
