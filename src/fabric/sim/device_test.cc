#include "fabric/sim/device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <deque>

#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {
namespace {

using namespace std::chrono_literals;

struct Io : block::Request {
  Io() {
    done = [](block::Request& request) { ++static_cast<Io&>(request).completed; };
  }
  iovec segment{};
  std::vector<std::byte> buffer;
  int completed = 0;
};

class SimDeviceTest : public ::testing::Test {
 protected:
  explicit SimDeviceTest(DeviceOptions options = {})
      : device_(world_, options), queue_(*device_.open_queue(loop_)) {}
  Io& submit(block::Op op, std::uint64_t offset, std::uint64_t length, std::byte fill = {},
             std::uint8_t flags = 0) {
    Io& io = ios_.emplace_back();
    io.op = op;
    io.flags = flags;
    io.offset = offset;
    io.length = length;
    if (block::carries_data(op)) {
      io.buffer.assign(length, fill);
      io.segment = {io.buffer.data(), length};
      io.segments = {&io.segment, 1};
    }
    (*queue_)->submit(io);
    EXPECT_EQ(io.completed, 0);
    return io;
  }
  Io& run(block::Op op, std::uint64_t offset, std::uint64_t length, std::byte fill = {},
          std::uint8_t flags = 0) {
    Io& io = submit(op, offset, length, fill, flags);
    EXPECT_TRUE(world_.run_until([&] { return io.completed == 1; }, 1s));
    return io;
  }
  bool all(std::span<const std::byte> bytes, std::byte value) {
    return std::ranges::all_of(bytes, [value](std::byte b) { return b == value; });
  }
  World world_{Options{.seed = seed_from_environment()}};
  SimLoop& loop_ = world_.make_loop();
  SimDevice device_;
  Result<std::unique_ptr<block::Queue>> queue_;
  std::deque<Io> ios_;
};

TEST_F(SimDeviceTest, ReadsBackWhatWasWrittenAndZeroesWhatWasDiscarded) {
  EXPECT_FALSE(run(block::Op::write, 4096, 8192, std::byte{7}).result);
  EXPECT_FALSE(run(block::Op::discard, 8192, 512).result);
  const Io& read = run(block::Op::read, 4096, 8192, std::byte{9});
  EXPECT_FALSE(read.result);
  EXPECT_TRUE(all(std::span(read.buffer).first(4096), std::byte{7}));
  EXPECT_TRUE(all(std::span(read.buffer).subspan(4096, 512), std::byte{0}));
  EXPECT_TRUE(all(std::span(read.buffer).subspan(4608), std::byte{7}));
}

TEST_F(SimDeviceTest, RequestsOvertakeEachOther) {
  for (int i = 0; i < 50; ++i) submit(block::Op::read, 0, 512);
  std::vector<int> order;
  while (order.size() < 50) {
    ASSERT_TRUE(world_.run_until(
        [&] {
          const std::size_t before = order.size();
          for (int i = 0; i < 50; ++i) {
            const bool known = std::ranges::find(order, i) != order.end();
            if (!known && ios_[static_cast<std::size_t>(i)].completed == 1) order.push_back(i);
          }
          return order.size() > before;
        },
        1s));
  }
  EXPECT_FALSE(std::ranges::is_sorted(order));
}

TEST_F(SimDeviceTest, APowerCutLosesSomeOfWhatWasNotFlushedAndNothingElse) {
  run(block::Op::write, 0, 65536, std::byte{1});
  run(block::Op::flush, 0, 0);
  run(block::Op::write, 65536, 65536, std::byte{2}, block::kFua);
  run(block::Op::write, 0, 131072, std::byte{3});
  run(block::Op::write, 131072, 512, std::byte{4}, block::kFua);
  device_.power_cut();
  EXPECT_EQ(run(block::Op::read, 0, 512).result, from_errno(EIO));
  device_.power_on();
  const Io& read = run(block::Op::read, 0, 131584);
  const auto count = [&](std::byte value) { return std::ranges::count(read.buffer, value); };
  EXPECT_EQ(count(std::byte{1}) + count(std::byte{2}) + count(std::byte{3}) + count(std::byte{4}),
            131584);
  EXPECT_GT(count(std::byte{1}), 0);
  EXPECT_GT(count(std::byte{2}), 0);
  EXPECT_GT(count(std::byte{3}), 0);
  EXPECT_EQ(count(std::byte{4}), 512);
}

TEST_F(SimDeviceTest, FailsAsToldAndWithoutEffect) {
  device_.fail_next(1, from_errno(ENOSPC));
  EXPECT_EQ(run(block::Op::write, 0, 4096, std::byte{5}).result, from_errno(ENOSPC));
  EXPECT_TRUE(all(device_.contents(), std::byte{0}));
  EXPECT_FALSE(run(block::Op::write, 0, 4096, std::byte{5}).result);
  EXPECT_EQ(run(block::Op::write, device_.limits().size, 512).result, from_errno(EIO));
  EXPECT_EQ(run(block::Op::read, 1, 512).result, from_errno(EINVAL));
}

TEST_F(SimDeviceTest, NothingCompletesDuringAStall) {
  const Io& before = submit(block::Op::read, 0, 512);
  device_.stall(1s);
  const Io& after = submit(block::Op::read, 0, 512);
  world_.run_for(900ms);
  EXPECT_EQ(before.completed + after.completed, 0);
  world_.run_for(200ms);
  EXPECT_EQ(before.completed + after.completed, 2);
}

TEST_F(SimDeviceTest, OverlappingWritesMayTear) {
  bool torn = false;
  for (int i = 0; i < 200 && !torn; ++i) {
    Io& first = submit(block::Op::write, 0, 8192, std::byte{1});
    Io& second = submit(block::Op::write, 0, 8192, std::byte{2});
    ASSERT_TRUE(world_.run_until([&] { return first.completed + second.completed == 2; }, 1s));
    torn = device_.contents()[0] != device_.contents()[8191];
  }
  EXPECT_TRUE(torn);
}

}  // namespace
}  // namespace rnbd::fabric::sim
