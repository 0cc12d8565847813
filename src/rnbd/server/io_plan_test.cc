#include "rnbd/server/io_plan.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace rnbd::server {
namespace {

block::Limits disk() {
  block::Limits limits;
  limits.size = 1 << 20;
  limits.max_discard = limits.max_write_zeroes = 1 << 20;
  limits.volatile_cache = limits.fua = true;
  return limits;
}

wire::Io io(wire::IoOp op, std::uint64_t sector, std::uint32_t length, std::uint32_t flags = 0) {
  return {
      .device_id = 0, .op = op, .flags = flags, .sector = sector, .length = length, .priority = 0};
}

std::error_code error_of(const wire::Io& message, const block::Limits& limits,
                         bool read_only = false) {
  const auto plan = plan_io(message, limits, read_only);
  return plan ? std::error_code{} : plan.error();
}

TEST(IoPlan, MapsEveryOperation) {
  const std::pair<wire::IoOp, block::Op> pairs[] = {
      {wire::IoOp::read, block::Op::read},
      {wire::IoOp::write, block::Op::write},
      {wire::IoOp::flush, block::Op::flush},
      {wire::IoOp::discard, block::Op::discard},
      {wire::IoOp::secure_erase, block::Op::secure_erase},
      {wire::IoOp::write_zeroes, block::Op::write_zeroes}};
  block::Limits limits = disk();
  limits.max_secure_erase = 4096;
  for (const auto& [wire_op, op] : pairs) {
    const auto plan =
        plan_io(io(wire_op, 8, wire_op == wire::IoOp::flush ? 0 : 4096), limits, false);
    ASSERT_TRUE(plan) << block::op_name(op);
    EXPECT_EQ(plan->op, op);
    if (op == block::Op::flush) continue;
    EXPECT_EQ(plan->offset, 4096U);
    EXPECT_EQ(plan->length, 4096U);
  }
}

TEST(IoPlan, RefusesWhatIsBeyondTheEnd) {
  EXPECT_EQ(error_of(io(wire::IoOp::read, 2047, 512), disk()), std::error_code{});
  EXPECT_EQ(error_of(io(wire::IoOp::read, 2048, 512), disk()), from_errno(EIO));
  EXPECT_EQ(error_of(io(wire::IoOp::write, 2047, 1024), disk()), from_errno(EIO));
  EXPECT_EQ(error_of(io(wire::IoOp::read, ~std::uint64_t{0}, 512), disk()), from_errno(EIO));
  EXPECT_EQ(error_of(io(wire::IoOp::read, std::uint64_t{1} << 55, 512), disk()), from_errno(EIO));
  EXPECT_EQ(error_of(io(wire::IoOp::discard, 0, 0xfffffe00), disk()), from_errno(EIO));
}

TEST(IoPlan, RefusesWhatIsNoMultipleOfTheBlock) {
  EXPECT_EQ(error_of(io(wire::IoOp::read, 0, 100), disk()), from_errno(EINVAL));
  block::Limits limits = disk();
  limits.logical_block_size = limits.physical_block_size = 4096;
  EXPECT_EQ(error_of(io(wire::IoOp::write, 1, 4096), limits), from_errno(EINVAL));
  EXPECT_EQ(error_of(io(wire::IoOp::write, 8, 512), limits), from_errno(EINVAL));
  EXPECT_EQ(error_of(io(wire::IoOp::write, 8, 4096), limits), std::error_code{});
}

TEST(IoPlan, AFlushMayNameAnySector) {
  EXPECT_EQ(
      error_of(io(wire::IoOp::flush, wire::kFlushSector, 0, wire::kIoSync | wire::kIoFua), disk()),
      std::error_code{});
}

TEST(IoPlan, RefusesWhatTheDeviceCannotDo) {
  block::Limits limits = disk();
  limits.max_discard = limits.max_write_zeroes = 0;
  for (const auto op : {wire::IoOp::discard, wire::IoOp::secure_erase, wire::IoOp::write_zeroes}) {
    EXPECT_EQ(error_of(io(op, 0, 512), limits), from_errno(EOPNOTSUPP));
  }
}

TEST(IoPlan, S9_RefusesEveryChangeThroughAReadOnlyMapping) {
  for (const auto op : {wire::IoOp::write, wire::IoOp::discard, wire::IoOp::secure_erase,
                        wire::IoOp::write_zeroes}) {
    EXPECT_EQ(error_of(io(op, 0, 512), disk(), true), from_errno(EPERM));
    EXPECT_EQ(error_of(io(op, 0, 0), disk(), true), from_errno(EPERM));
  }
  EXPECT_EQ(error_of(io(wire::IoOp::read, 0, 512), disk(), true), std::error_code{});
  EXPECT_EQ(error_of(io(wire::IoOp::flush, 0, 0), disk(), true), std::error_code{});
}

TEST(IoPlan, AnEmptyWriteIsAFlushWhenItAsksForStableStorage) {
  EXPECT_TRUE(plan_io(io(wire::IoOp::write, 0, 0), disk(), false)->nothing_to_do());
  EXPECT_TRUE(plan_io(io(wire::IoOp::write, 0, 0, wire::kIoSync), disk(), false)->nothing_to_do());
  EXPECT_EQ(plan_io(io(wire::IoOp::write, 0, 0, wire::kIoFua), disk(), false)->op,
            block::Op::flush);
  EXPECT_EQ(plan_io(io(wire::IoOp::write, 0, 0, wire::kIoPreflush), disk(), false)->op,
            block::Op::flush);
}

TEST(IoPlan, LeavesFuaToADeviceThatHasItAndFlushesForOneThatHasNot) {
  block::Limits limits = disk();
  auto plan = plan_io(io(wire::IoOp::write, 0, 512, wire::kIoFua | wire::kIoSync), limits, false);
  EXPECT_EQ(plan->flags, block::kFua | block::kSync);
  EXPECT_FALSE(plan->postflush);
  plan = plan_io(io(wire::IoOp::discard, 0, 512, wire::kIoFua), limits, false);
  EXPECT_TRUE(plan->postflush);
  limits.fua = false;
  plan = plan_io(io(wire::IoOp::write, 0, 512, wire::kIoFua), limits, false);
  EXPECT_EQ(plan->flags, block::kNoFlags);
  EXPECT_TRUE(plan->postflush);
  limits.volatile_cache = false;
  plan = plan_io(io(wire::IoOp::write, 0, 512, wire::kIoFua | wire::kIoPreflush), limits, false);
  EXPECT_EQ(plan->after(Step::start), Step::main);
  EXPECT_EQ(plan->after(Step::main), Step::end);
}

TEST(IoPlan, FlushesFirstWhenAskedTo) {
  const auto plan = plan_io(io(wire::IoOp::write, 0, 512, wire::kIoPreflush), disk(), false);
  EXPECT_EQ(plan->after(Step::start), Step::preflush);
  EXPECT_EQ(plan->after(Step::preflush), Step::main);
  EXPECT_EQ(plan->after(Step::main), Step::end);
}

TEST(IoPlan, KeepsBlocksAllocatedWhenAskedTo) {
  EXPECT_EQ(plan_io(io(wire::IoOp::write_zeroes, 0, 512, wire::kIoNoUnmap), disk(), false)->flags,
            block::kNoUnmap);
}

}  // namespace
}  // namespace rnbd::server
