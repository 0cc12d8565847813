#pragma once
// From an IO message to what the device is asked, as a pure function: operation, range, flags, and
// the flushes around it that the device does not do itself.

#include "block/device.h"
#include "wire/rnbd.h"

namespace rnbd::server {

// What a request goes through: an optional flush, itself, an optional flush.
enum class Step : std::uint8_t { start, preflush, main, postflush, end };

struct IoPlan {
  block::Op op = block::Op::read;
  std::uint8_t flags = block::kNoFlags;
  bool preflush = false;
  bool postflush = false;  // FUA by hand
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  std::uint64_t piece_max = 0;  // most bytes the device takes at once; never 0

  bool nothing_to_do() const { return length == 0 && op != block::Op::flush; }
  Step after(Step step) const {
    if (step == Step::start && preflush) return Step::preflush;
    if (step < Step::main) return Step::main;
    if (step == Step::main && postflush) return Step::postflush;
    return Step::end;
  }
};

// The errors are what the kernel server answers: EIO beyond the end, EINVAL for a range that is no
// multiple of the block size, EOPNOTSUPP for what the device cannot do; and EPERM for a change
// through a read-only mapping, which the kernel server lets through.
Result<IoPlan> plan_io(const wire::Io& io, const block::Limits& limits, bool read_only);

}  // namespace rnbd::server
