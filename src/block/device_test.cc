#include "block/device.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace rnbd::block {
namespace {

Limits limits() { return {.size = 1 << 20, .logical_block_size = 4096, .max_discard = 8192}; }

std::error_code judge(Op op, std::uint64_t offset, std::uint64_t length,
                      const Limits& with = limits()) {
  static char memory[1];
  const iovec segment{memory, length};
  Request request;
  request.op = op;
  request.offset = offset;
  request.length = length;
  if (carries_data(op)) request.segments = {&segment, 1};
  return check(request, with);
}

TEST(Check, AcceptsWhatFits) {
  EXPECT_FALSE(judge(Op::read, 0, 1 << 20));
  EXPECT_FALSE(judge(Op::write, (1 << 20) - 4096, 4096));
  EXPECT_FALSE(judge(Op::flush, ~0ull, 0));
  EXPECT_FALSE(judge(Op::discard, 4096, 8192));
}

TEST(Check, BeyondTheEndIsEioWithoutOverflow) {
  EXPECT_EQ(judge(Op::read, 1 << 20, 4096), from_errno(EIO));
  EXPECT_EQ(judge(Op::write, ~0ull & ~4095ull, 4096), from_errno(EIO));
  EXPECT_EQ(judge(Op::read, 4096, ~0ull & ~4095ull), from_errno(EIO));
}

TEST(Check, AlignmentAndShapeAreEinval) {
  EXPECT_EQ(judge(Op::read, 512, 4096), from_errno(EINVAL));
  EXPECT_EQ(judge(Op::read, 0, 512), from_errno(EINVAL));
  EXPECT_EQ(judge(Op::discard, 0, 12288), from_errno(EINVAL));
  Request request;
  request.length = 4096;  // no segments
  EXPECT_EQ(check(request, limits()), from_errno(EINVAL));
}

TEST(Check, UnsupportedAndReadOnly) {
  EXPECT_EQ(judge(Op::write_zeroes, 0, 4096), from_errno(EOPNOTSUPP));
  EXPECT_EQ(judge(Op::secure_erase, 0, 4096), from_errno(EOPNOTSUPP));
  Limits read_only = limits();
  read_only.read_only = true;
  EXPECT_EQ(judge(Op::write, 0, 4096, read_only), make_error_code(Errc::read_only));
  EXPECT_FALSE(judge(Op::read, 0, 4096, read_only));
  EXPECT_FALSE(judge(Op::flush, 0, 0, read_only));
}

}  // namespace
}  // namespace rnbd::block
