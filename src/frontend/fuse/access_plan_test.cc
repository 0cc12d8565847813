#include "frontend/fuse/access_plan.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"

namespace rnbd::fuse {
namespace {

constexpr std::uint64_t kDevice = 64 * 1024;

// Executes plans on a byte array, refusing what a block device would refuse.
class Blocks {
 public:
  explicit Blocks(std::uint32_t block_size) : block_(block_size), data_(4 * block_size + kDevice) {
    memory.data = data_.data();
    scratch_.resize(2 * std::size_t{block_size});
    memory.scratch[0] = scratch_.data();
    memory.scratch[1] = scratch_.data() + block_size;
  }
  void run(Plan plan) {
    for (std::size_t i = 0; i < plan.count; ++i) {
      const Step& step = plan.steps[i];
      for (const Edit& edit : step.edits) {
        if (edit.size == 0) continue;
        if (edit.from != nullptr) {
          std::memcpy(edit.to, edit.from, edit.size);
        } else {
          std::memset(edit.to, 0, edit.size);
        }
      }
      const auto& what = step.what;
      ASSERT_EQ(what.offset % block_, 0U);
      ASSERT_EQ(what.length % block_, 0U);
      ASSERT_GT(what.length, 0U);
      ASSERT_LE(what.offset + what.length, kDevice);
      ASSERT_GE(what.offset, plan.begin);
      ASSERT_LE(what.offset + what.length, plan.end);
      if (what.op == block::Op::read)
        std::memcpy(what.data, disk.data() + what.offset, what.length);
      if (what.op == block::Op::write)
        std::memcpy(disk.data() + what.offset, what.data, what.length);
      if (what.op == block::Op::write_zeroes)
        std::memset(disk.data() + what.offset, 0, what.length);
      reads += what.op == block::Op::read ? 1U : 0U;
    }
  }
  std::vector<std::byte> disk{kDevice};
  Memory memory;
  unsigned reads = 0;

 private:
  std::uint32_t block_;
  std::vector<std::byte> data_;
  std::vector<std::byte> scratch_;
};

TEST(AccessPlan, WholeBlocksAreOneWriteThatNeedNotBeAlone) {
  Blocks blocks(512);
  const Plan plan = plan_write({1024, 2048}, 512, blocks.memory, block::kFua);
  EXPECT_EQ(plan.count, 1U);
  EXPECT_FALSE(plan.exclusive);
  EXPECT_EQ(plan.steps[0].what.flags, block::kFua);
  const Plan zero = plan_zero({1024, 2048}, 512, blocks.memory, block::kNoUnmap);
  EXPECT_EQ(zero.count, 1U);
  EXPECT_FALSE(zero.exclusive);
}

TEST(AccessPlan, ReadsABlockOnceWhenBothEndsAreInIt) {
  Blocks blocks(4096);
  blocks.run(plan_write({100, 5}, 4096, blocks.memory, 0));
  EXPECT_EQ(blocks.reads, 1U);
  blocks.run(plan_zero({100, 5}, 4096, blocks.memory, 0));
  EXPECT_EQ(blocks.reads, 2U);
}

class AccessPlanSizes : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(AccessPlanSizes, ChangesExactlyTheBytesAskedForWhateverTheOffsets) {
  const std::uint64_t seed = 4711;
  SCOPED_TRACE(seed);
  SeededRandom random(seed);
  Blocks blocks(GetParam());
  std::vector<std::byte> expected(kDevice);
  for (int step = 0; step < 600; ++step) {
    Extent extent;
    extent.offset = random.below(kDevice - 1);
    extent.length =
        1 + random.below(std::min<std::uint64_t>(kDevice - extent.offset, 3 * GetParam()));
    if (random.below(3) == 0) {
      blocks.run(plan_zero(extent, GetParam(), blocks.memory, 0));
      std::memset(expected.data() + extent.offset, 0, extent.length);
    } else {
      for (std::size_t i = 0; i < extent.length; ++i) {
        expected[extent.offset + i] = blocks.memory.data[i] = static_cast<std::byte>(random.next());
      }
      blocks.run(plan_write(extent, GetParam(), blocks.memory, 0));
    }
    ASSERT_EQ(blocks.disk, expected) << extent.offset << "+" << extent.length;
    blocks.run(plan_read(extent, GetParam(), blocks.memory));
    ASSERT_EQ(std::memcmp(blocks.memory.data + extent.offset % GetParam(),
                          expected.data() + extent.offset, extent.length),
              0);
  }
}

INSTANTIATE_TEST_SUITE_P(Blocks, AccessPlanSizes, ::testing::Values(512U, 4096U));

}  // namespace
}  // namespace rnbd::fuse
