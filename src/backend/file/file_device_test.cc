#include "backend/file/file_device.h"

#include <gtest/gtest.h>
#include <liburing.h>

#include <algorithm>
#include <map>
#include <thread>
#include <vector>

#include "backend/testing/temp_file.h"
#include "base/random.h"

namespace rnbd::backend {
namespace {

using block::Op;
using testing::Buffer;
using testing::DiskUser;
using testing::kMiB;
using testing::open_device;
using testing::TempFile;
using Cache = FileOptions::Cache;

// Both ways into the file must behave the same.
class EveryCache : public ::testing::TestWithParam<Cache> {
 protected:
  void SetUp() override {
    auto tried = FileDevice::open_path(file.path(), {.cache = GetParam()});
    if (!tried) GTEST_SKIP() << "no direct I/O in the directory of temporary files";
    EXPECT_EQ((*tried)->direct(), GetParam() == Cache::direct);
  }
  FileOptions options() const { return {.cache = GetParam()}; }
  TempFile file;
};
INSTANTIATE_TEST_SUITE_P(File, EveryCache, ::testing::Values(Cache::buffered, Cache::direct),
                         [](const auto& cache) {
                           return cache.param == Cache::direct ? "Direct" : "Buffered";
                         });

TEST_P(EveryCache, WritesAndReadsBack) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  Buffer out(4096), in(4096), seen(4096);
  out.fill_pattern(7);
  EXPECT_FALSE(disk.write(512, out.data(), 4096));
  EXPECT_FALSE(disk.read(512, in.data(), 4096));
  EXPECT_TRUE(in.same(out));
  file.peek(512, seen);
  EXPECT_TRUE(seen.same(out));
}

TEST_P(EveryCache, TransfersAMebibyteAndManySegmentsOfOddSize) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  Buffer out(kMiB), in(kMiB);
  out.fill_pattern(8);
  EXPECT_FALSE(disk.write(kMiB, out.data(), kMiB));
  auto read = disk.make(Op::read, kMiB, kMiB);
  std::vector<iovec> parts;
  SeededRandom random(3);
  for (std::size_t at = 0; at < kMiB;) {
    const std::size_t piece = std::min<std::size_t>(kMiB - at, random.below(3000));  // may be 0
    parts.push_back({in.data() + at, piece});
    at += piece;
  }
  disk.set_parts(*read, std::move(parts));
  EXPECT_FALSE(disk.run(*read));
  EXPECT_TRUE(in.same(out));
}

TEST_P(EveryCache, TransfersMoreSegmentsThanOneSystemCallTakes) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  constexpr std::size_t kParts = 3000;
  Buffer out(kParts * 512), in(kParts * 512);
  out.fill_pattern(9);
  for (auto* buffer : {&out, &in}) {
    auto request = disk.make(buffer == &out ? Op::write : Op::read, 0, kParts * 512);
    std::vector<iovec> parts;
    for (std::size_t i = 0; i < kParts; ++i) parts.push_back({buffer->data() + i * 512, 512});
    disk.set_parts(*request, std::move(parts));
    EXPECT_FALSE(disk.run(*request));
  }
  EXPECT_TRUE(in.same(out));
}

TEST_P(EveryCache, TakesMemoryOfAnyAlignment) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  Buffer out(3 * kMiB, 0, 13), in(3 * kMiB, 0, 77);  // larger than a bounce buffer
  out.fill_pattern(10);
  EXPECT_FALSE(disk.write(4096, out.data(), out.size(), block::kFua));
  EXPECT_FALSE(disk.read(4096, in.data(), in.size()));
  EXPECT_TRUE(in.same(out));
}

TEST_P(EveryCache, ServesMoreRequestsThanItHasSlotsAndBounceBuffers) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  constexpr std::size_t kRequests = 1500;
  Buffer out(4096, 0, 1), in(4096 * kRequests, 0, 1);
  out.fill_pattern(11);
  EXPECT_FALSE(disk.write(0, out.data(), 4096));
  std::vector<std::unique_ptr<testing::TestRequest>> requests;
  for (std::size_t i = 0; i < kRequests; ++i) {
    requests.push_back(disk.make(Op::read, 0, 4096));
    disk.set_parts(*requests.back(), {{in.data() + i * 4096, 4096}});
    disk.submit(*requests.back());
  }
  EXPECT_TRUE(rnbd::testing::run_until(disk.reactor(), [&] {
    return std::all_of(requests.begin(), requests.end(), [](auto& r) { return r->finished; });
  }));
  for (std::size_t i = 0; i < kRequests; ++i) {
    EXPECT_FALSE(requests[i]->result);
    EXPECT_EQ(requests[i]->completions, 1);
    EXPECT_EQ(std::memcmp(in.data() + i * 4096, out.data(), 4096), 0);
  }
}

TEST_P(EveryCache, UsesRegisteredMemory) {
  auto device = open_device(file, options());
  std::map<unsigned, int> opcodes;
  device->set_result_hook([&](unsigned opcode, int result) {
    ++opcodes[opcode];
    return result;
  });
  DiskUser disk(*device);
  Buffer memory(64 * 1024), copy(4096);
  const int index = disk.reactor().register_buffer({memory.data(), memory.size()});
  if (index < 0) GTEST_SKIP() << "the kernel refuses registered buffers here (memlock limit?)";
  memory.fill_pattern(12);
  EXPECT_FALSE(disk.write(0, memory.data() + 4096, 4096, block::kFua));
  std::memcpy(copy.data(), memory.data() + 4096, 4096);
  EXPECT_FALSE(disk.read(0, memory.data() + 8192, 4096));
  EXPECT_EQ(std::memcmp(memory.data() + 8192, copy.data(), 4096), 0);
  EXPECT_EQ(opcodes[IORING_OP_WRITE_FIXED], 1);
  EXPECT_EQ(opcodes[IORING_OP_READ_FIXED], 1);
  EXPECT_FALSE(disk.read(0, copy.data(), 4096));
  EXPECT_EQ(opcodes[IORING_OP_READ], 1);
  disk.reactor().unregister_buffer(index);
}

TEST_P(EveryCache, ContinuesAfterShortTransfers) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  // Every answer is cut to half its blocks, so each request takes many turns.
  device->set_result_hook(
      [](unsigned, int result) { return result > 512 ? result / 1024 * 512 : result; });
  Buffer out(64 * 1024), in(64 * 1024);
  out.fill_pattern(13);
  EXPECT_FALSE(disk.write(0, out.data(), out.size()));
  auto read = disk.make(Op::read, 0, in.size());
  disk.set_parts(
      *read,
      {{in.data(), 512 * 3}, {in.data() + 512 * 3, 512 * 60}, {in.data() + 512 * 63, 512 * 65}});
  EXPECT_FALSE(disk.run(*read));
  EXPECT_TRUE(in.same(out));
}

TEST_P(EveryCache, TriesAgainWhenInterruptedButNotForEver) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  int left = 3;
  device->set_result_hook([&](unsigned, int result) { return left-- > 0 ? -EINTR : result; });
  Buffer data(4096);
  EXPECT_FALSE(disk.read(0, data.data(), 4096));
  left = 1 << 20;
  EXPECT_EQ(disk.read(0, data.data(), 4096), from_errno(EINTR));
}

TEST_P(EveryCache, DiscardPunchesHoles) {
  auto device = open_device(file, options());
  if (device->limits().max_discard == 0) GTEST_SKIP() << "no holes in files here";
  DiskUser disk(*device);
  Buffer data(4 * kMiB, 0x77);
  EXPECT_FALSE(disk.write(0, data.data(), data.size()));
  EXPECT_FALSE(disk.flush());
  const auto before = file.allocated();
  EXPECT_FALSE(disk.range(Op::discard, kMiB, 2 * kMiB));
  EXPECT_LE(file.allocated(), before - 2 * kMiB + 65536);
  EXPECT_FALSE(disk.read(0, data.data(), data.size()));
  for (const std::uint64_t at : {std::uint64_t{0}, kMiB - 1, 3 * kMiB})
    EXPECT_EQ(data.data()[at], std::byte{0x77});
  for (const std::uint64_t at : {kMiB, 2 * kMiB, 3 * kMiB - 1})
    EXPECT_EQ(data.data()[at], std::byte{0});
}

TEST_P(EveryCache, WritesZeroesWithAndWithoutKeepingTheBlocks) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  for (const int flags : {0, int{block::kNoUnmap}, block::kNoUnmap | block::kFua}) {
    Buffer data(4 * kMiB, 0x77), in(kMiB, 1);
    EXPECT_FALSE(disk.write(0, data.data(), data.size()));
    EXPECT_FALSE(disk.flush());
    const auto before = file.allocated();
    EXPECT_FALSE(disk.range(Op::write_zeroes, 512, kMiB, flags));
    EXPECT_FALSE(disk.read(512, in.data(), kMiB));
    EXPECT_TRUE(in.all(0));
    EXPECT_FALSE(disk.read(0, data.data(), data.size()));
    EXPECT_EQ(data.data()[511], std::byte{0x77});
    EXPECT_EQ(data.data()[512 + kMiB], std::byte{0x77});
    if ((flags & block::kNoUnmap) != 0) {
      EXPECT_GE(file.allocated(), before);
    }
  }
}

TEST_P(EveryCache, WritesZeroesTheHardWayWhereTheFileSystemCannot) {
  auto device = open_device(file, options());
  std::map<unsigned, int> opcodes;
  device->set_result_hook([&](unsigned opcode, int result) {
    ++opcodes[opcode];
    return opcode == IORING_OP_FALLOCATE ? -EOPNOTSUPP : result;
  });
  DiskUser disk(*device);
  Buffer data(2 * kMiB, 0x77);
  EXPECT_FALSE(disk.write(0, data.data(), data.size()));
  opcodes.clear();
  EXPECT_FALSE(disk.range(Op::write_zeroes, 0, kMiB + 512, block::kFua));
  EXPECT_EQ(opcodes[IORING_OP_FALLOCATE], 2);  // punching, then zeroing, each tried once
  EXPECT_EQ(opcodes[IORING_OP_WRITE], 5);
  EXPECT_EQ(opcodes[IORING_OP_FSYNC], 1);
  EXPECT_FALSE(disk.range(Op::write_zeroes, 0, 4096, block::kNoUnmap));
  EXPECT_EQ(opcodes[IORING_OP_FALLOCATE], 2);  // and never again
  device->set_result_hook(nullptr);
  EXPECT_FALSE(disk.read(0, data.data(), data.size()));
  EXPECT_EQ(data.data()[kMiB + 511], std::byte{0});
  EXPECT_EQ(data.data()[kMiB + 512], std::byte{0x77});
}

TEST_P(EveryCache, ReportsAFileThatShrank) {
  auto device = open_device(file, options());
  DiskUser disk(*device);
  file.resize(kMiB + 100);
  Buffer data(8192, 1);
  EXPECT_EQ(disk.read(2 * kMiB, data.data(), 8192), from_errno(EIO));
  EXPECT_EQ(disk.read(kMiB, data.data(), 4096), from_errno(EIO));
  EXPECT_EQ(disk.read(kMiB - 4096, data.data(), 8192), from_errno(EIO));
  EXPECT_FALSE(disk.read(kMiB - 4096, data.data(), 4096));
}

TEST_P(EveryCache, MatchesAModelUnderRandomRequests) {
  constexpr std::size_t kSize = 512 << 10;
  file.resize(kSize);
  auto device = open_device(file, options());
  DiskUser disk(*device);
  std::vector<std::byte> model(kSize);
  SeededRandom random(42);
  for (int i = 0; i < 600; ++i) {
    const std::uint64_t length = (1 + random.below(64)) * 512;
    const std::uint64_t offset = random.below((kSize - length) / 512 + 1) * 512;
    const int flags = random.below(16) == 0 ? block::kFua | block::kPreflush : 0;
    Buffer data(length, 0, random.below(2) * 3);
    switch (random.below(4)) {
      case 0:
        data.fill_pattern(random.next());
        ASSERT_FALSE(disk.write(offset, data.data(), length, flags));
        std::memcpy(model.data() + offset, data.data(), length);
        break;
      case 1:
        ASSERT_FALSE(disk.range(Op::write_zeroes, offset, length,
                                flags | (random.below(2) == 0 ? block::kNoUnmap : 0)));
        std::memset(model.data() + offset, 0, length);
        break;
      default:
        ASSERT_FALSE(disk.read(offset, data.data(), length));
        ASSERT_EQ(std::memcmp(model.data() + offset, data.data(), length), 0) << i;
    }
  }
}

// --- what goes to stable storage ---

struct Trace {
  std::vector<unsigned> opcodes;
  void attach(FileDevice& device) {
    device.set_result_hook([this](unsigned opcode, int result) {
      opcodes.push_back(opcode);
      return result;
    });
  }
};

TEST(FileDevice, FlushesBeforeAndAfterAsTheFlagsSay) {
  TempFile file;
  auto device = open_device(file);
  Trace trace;
  trace.attach(*device);
  DiskUser disk(*device);
  Buffer data(4096);
  EXPECT_FALSE(disk.flush());
  EXPECT_FALSE(disk.write(0, data.data(), 4096, block::kPreflush | block::kFua));
  EXPECT_FALSE(disk.range(Op::write_zeroes, 0, 4096, block::kPreflush | block::kFua));
  const unsigned sync = IORING_OP_FSYNC;
  const unsigned write = IORING_OP_WRITE;
  const unsigned range = IORING_OP_FALLOCATE;
  EXPECT_EQ(trace.opcodes, (std::vector<unsigned>{sync, sync, write, sync, range, sync}));
  auto empty = disk.make(Op::write, 0, 0, block::kPreflush);
  EXPECT_FALSE(disk.run(*empty));
  EXPECT_EQ(trace.opcodes.back(), sync);
}

TEST(FileDevice, WriteThroughNeedsNoFlushAndSaysSo) {
  TempFile file;
  auto device = open_device(file, {.write_through = true});
  EXPECT_FALSE(device->limits().volatile_cache);
  Trace trace;
  trace.attach(*device);
  DiskUser disk(*device);
  EXPECT_FALSE(disk.range(Op::write_zeroes, 0, 4096));
  EXPECT_EQ(trace.opcodes.back(), static_cast<unsigned>(IORING_OP_FSYNC));
  EXPECT_TRUE(open_device(TempFile())->limits().volatile_cache);
}

TEST(FileDevice, R10_AFailedFlushFailsEveryLaterFlushAndFuaOnEveryQueue) {
  TempFile file;
  auto device = open_device(file);
  bool failing = true;
  device->set_result_hook([&](unsigned opcode, int result) {
    return failing && opcode == IORING_OP_FSYNC ? -ENOSPC : result;
  });
  DiskUser disk(*device);
  DiskUser other(*device);
  Buffer data(4096);
  EXPECT_FALSE(disk.flush().value() == 0);
  failing = false;
  EXPECT_TRUE(device->poisoned());
  EXPECT_EQ(disk.flush(), from_errno(EIO));
  EXPECT_EQ(other.flush(), from_errno(EIO));
  EXPECT_EQ(other.write(0, data.data(), 4096, block::kFua), from_errno(EIO));
  EXPECT_EQ(other.write(0, data.data(), 4096, block::kPreflush), from_errno(EIO));
  EXPECT_FALSE(other.write(0, data.data(), 4096));
  EXPECT_FALSE(other.read(0, data.data(), 4096));
  device->clear_errors();
  EXPECT_FALSE(other.flush());
}

TEST(FileDevice, R10_AFailedFuaWritePoisonsAsWellAndAPlainOneDoesNot) {
  TempFile file;
  auto device = open_device(file);
  bool failing = true;
  device->set_result_hook([&](unsigned opcode, int result) {
    return failing && opcode == IORING_OP_WRITE ? -EIO : result;
  });
  DiskUser disk(*device);
  Buffer data(4096);
  EXPECT_EQ(disk.write(0, data.data(), 4096), from_errno(EIO));
  EXPECT_FALSE(disk.flush());
  EXPECT_EQ(disk.write(0, data.data(), 4096, block::kFua), from_errno(EIO));
  failing = false;
  EXPECT_EQ(disk.flush(), from_errno(EIO));
}

TEST(FileDevice, R10_AFailedPreflushFailsTheWriteUnwritten) {
  TempFile file;
  auto device = open_device(file);
  device->set_result_hook(
      [&](unsigned opcode, int result) { return opcode == IORING_OP_FSYNC ? -EIO : result; });
  DiskUser disk(*device);
  Buffer data(4096, 0x33), seen(4096, 0xff);
  EXPECT_EQ(disk.write(0, data.data(), 4096, block::kPreflush), from_errno(EIO));
  file.peek(0, seen);
  EXPECT_TRUE(seen.all(0));
}

TEST(FileDevice, IsSharedByReactorsAndFallsBackWithoutFileSystemHelp) {
  TempFile file(8 * kMiB, "/dev/shm");  // tmpfs: holes, but no zeroing of ranges
  auto device = open_device(file);
  std::vector<std::thread> users;
  for (std::uint64_t u = 0; u < 3; ++u) {
    users.emplace_back([&, u] {
      DiskUser disk(*device);
      Buffer data(4096, static_cast<int>(u + 1)), in(4096);
      for (std::uint64_t i = 0; i < 60; ++i) {
        EXPECT_FALSE(disk.write((i * 3 + u) * 4096, data.data(), 4096));
        const bool erase = i % 2 == 0;
        if (erase) {
          EXPECT_FALSE(disk.range(Op::write_zeroes, (i * 3 + u) * 4096, 4096, block::kNoUnmap));
        }
        EXPECT_FALSE(disk.read((i * 3 + u) * 4096, in.data(), 4096));
        EXPECT_TRUE(in.all(erase ? 0 : static_cast<int>(u + 1)));
      }
    });
  }
  for (auto& user : users) user.join();
}

TEST(FileDevice, OpensQueuesOnReactorsOnly) {
  TempFile file;
  auto device = open_device(file);
  struct NoReactor final : Loop {
    TimePoint now() const override { return {}; }
    void arm(Timer&, TimePoint) override {}
    void disarm(Timer&) override {}
    void defer(Task&) override {}
    void post(std::function<void()>) override {}
    bool on_this_thread() const override { return true; }
  } loop;
  auto queue = device->open_queue(loop);
  ASSERT_FALSE(queue);
  EXPECT_EQ(queue.error(), from_errno(EINVAL));
}

}  // namespace
}  // namespace rnbd::backend
