#include "backend/null/null_device.h"

#include <gtest/gtest.h>

#include "backend/testing/disk_user.h"

namespace rnbd::backend {
namespace {

using block::Op;
using testing::Buffer;
using testing::DiskUser;

TEST(NullDevice, CompletesEveryOperationOnceFromTheLoop) {
  auto device = *NullDevice::create({});
  DiskUser disk(*device);
  Buffer data(4096, 0x5a);
  EXPECT_FALSE(disk.read(0, data.data(), 4096));
  EXPECT_TRUE(data.all(0x5a));  // left alone
  EXPECT_FALSE(disk.write(1 << 20, data.data(), 4096, block::kFua));
  EXPECT_FALSE(disk.flush());
  EXPECT_FALSE(disk.range(Op::discard, 0, 1 << 30));
  EXPECT_FALSE(disk.range(Op::write_zeroes, 0, 1 << 30));
  EXPECT_FALSE(disk.range(Op::secure_erase, 0, 4096));
}

TEST(NullDevice, ReadsZerosWhenAskedToFill) {
  auto device = *NullDevice::create({.fill = true});
  DiskUser disk(*device);
  Buffer data(8192, 0x5a);
  EXPECT_FALSE(disk.read(4096, data.data(), 8192));
  EXPECT_TRUE(data.all(0));
}

TEST(NullDevice, ChecksEveryRequest) {
  auto device = *NullDevice::create({.size = 1 << 20, .read_only = true});
  DiskUser disk(*device);
  Buffer data(4096);
  EXPECT_EQ(disk.write(0, data.data(), 4096), make_error_code(Errc::read_only));
  EXPECT_EQ(disk.read(1, data.data(), 512), from_errno(EINVAL));
  EXPECT_EQ(disk.read(1 << 20, data.data(), 512), from_errno(EIO));
  EXPECT_EQ(disk.range(Op::discard, 0, 512), make_error_code(Errc::read_only));
}

TEST(NullDevice, RefusesImpossibleGeometry) {
  EXPECT_FALSE(NullDevice::create({.size = 0}));
  EXPECT_FALSE(NullDevice::create({.size = 513}));
  EXPECT_FALSE(NullDevice::create({.size = 4096, .logical_block_size = 1000}));
  EXPECT_FALSE(NullDevice::create({.size = 1 << 20, .logical_block_size = 1 << 17}));
  EXPECT_TRUE(NullDevice::create({.size = 1 << 20, .logical_block_size = 65536}));
}

// The last completion may end the queue's life: connections close that way.
TEST(NullDevice, AQueueMayBeDestroyedInsideItsLastCompletion) {
  auto device = *NullDevice::create({});
  auto reactor = std::move(*Reactor::create({.spin_max = Duration::zero()}));
  struct Last : block::Request {
    std::unique_ptr<block::Queue> queue;
    bool finished = false;
  } last;
  last.op = Op::flush;
  last.done = [](block::Request& request) {
    auto& self = static_cast<Last&>(request);
    self.queue.reset();
    self.finished = true;
  };
  last.queue = std::move(*device->open_queue(*reactor));
  last.queue->submit(last);
  EXPECT_TRUE(rnbd::testing::run_until(*reactor, [&] { return last.finished; }));
}

}  // namespace
}  // namespace rnbd::backend
