#include "rnbd/server/io_plan.h"

#include <cerrno>
#include <limits>

namespace rnbd::server {
namespace {

block::Op block_op(wire::IoOp op) {
  switch (op) {
    case wire::IoOp::read:
      return block::Op::read;
    case wire::IoOp::write:
      return block::Op::write;
    case wire::IoOp::flush:
      return block::Op::flush;
    case wire::IoOp::discard:
      return block::Op::discard;
    case wire::IoOp::secure_erase:
      return block::Op::secure_erase;
    case wire::IoOp::write_zeroes:
      return block::Op::write_zeroes;
  }
  return block::Op::read;  // the parser lets nothing else through
}

// Most bytes of one request to the device, in whole blocks; 0: it cannot do this at all.
std::uint64_t piece_max(block::Op op, const block::Limits& limits) {
  constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t most = limits.max_transfer == 0 ? kUnlimited : limits.max_transfer;
  if (op == block::Op::discard) most = limits.max_discard;
  if (op == block::Op::secure_erase) most = limits.max_secure_erase;
  if (op == block::Op::write_zeroes) most = limits.max_write_zeroes;
  return most & ~std::uint64_t{limits.logical_block_size - 1};
}

}  // namespace

Result<IoPlan> plan_io(const wire::Io& io, const block::Limits& limits, bool read_only) {
  IoPlan plan;
  plan.op = block_op(io.op);
  if ((io.flags & wire::kIoSync) != 0) plan.flags |= block::kSync;
  const bool fua = (io.flags & wire::kIoFua) != 0;
  const bool preflush = (io.flags & wire::kIoPreflush) != 0;
  if (plan.op == block::Op::flush) return plan;
  if (block::modifies(plan.op) && read_only) return fail_errno(EPERM);
  plan.piece_max = piece_max(plan.op, limits);
  if (plan.piece_max == 0) return fail_errno(EOPNOTSUPP);
  if (io.length == 0) {  // old kernels turn an empty pre-flush write into an empty write with FUA
    if (plan.op == block::Op::write && (fua || preflush)) plan.op = block::Op::flush;
    return plan;
  }
  if (io.sector > limits.size >> wire::kSectorShift) return fail_errno(EIO);
  plan.offset = io.sector << wire::kSectorShift;
  plan.length = io.length;
  if (plan.length > limits.size - plan.offset) return fail_errno(EIO);
  if (((plan.offset | plan.length) & (limits.logical_block_size - 1)) != 0)
    return fail_errno(EINVAL);
  if (plan.op == block::Op::write_zeroes && (io.flags & wire::kIoNoUnmap) != 0)
    plan.flags |= block::kNoUnmap;
  if (!limits.volatile_cache) return plan;  // all is stable as soon as it is written
  plan.preflush = preflush;
  if (fua && block::modifies(plan.op)) {
    const bool by_device =
        limits.fua && (plan.op == block::Op::write || plan.op == block::Op::write_zeroes);
    if (by_device) plan.flags |= block::kFua;
    plan.postflush = !by_device;
  }
  return plan;
}

}  // namespace rnbd::server
