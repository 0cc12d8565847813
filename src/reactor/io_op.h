#pragma once
// One ring operation in flight.

#include <cstdint>

namespace rnbd {

// Give it to Reactor::submit() and keep it, and every byte the kernel may use for it, alive until
// its last complete(). `result` is as in the CQE: negative errno, or what the operation gives. With
// IORING_CQE_F_MORE in `flags` further completions follow. Whoever must go earlier leaves the IoOp
// behind in an object of its own (see Watch::Poll), calls Reactor::cancel() and forgets it;
// cancelling is a hint, a disk operation completes anyway. complete() may destroy the op.
struct IoOp {
  void (*complete)(IoOp& op, int result, std::uint32_t flags) = nullptr;
};

}  // namespace rnbd
