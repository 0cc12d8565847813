#pragma once
// One io_uring ring, set up as well as the running kernel allows. Made on any thread, disabled; the
// thread that calls enable() owns it from then on. Checks for work read memory only; flush() and
// wait() are the only system calls, each of them one io_uring_enter(2).

#include <liburing.h>

#include <bitset>
#include <optional>

#include "base/error.h"
#include "base/loop.h"

namespace rnbd {

class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring();

  // SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN | TASKRUN_FLAG, dropping what the kernel refuses.
  std::error_code create(unsigned entries);
  std::error_code enable();  // on the thread that runs the loop, before the first flush() or wait()
  void disable();            // on the same thread, when it leaves the loop

  // Never null: submits what waits when the queue is full.
  io_uring_sqe* get_sqe();
  bool cqe_ready() const;
  // Entries to submit, or completions the kernel posts only when entered.
  bool needs_flush() const;
  void flush();
  // Submits, then sleeps until a completion is there or `timeout` has passed (nullopt: no limit).
  void wait(std::optional<Duration> timeout);

  // Takes the oldest completion; false if there is none.
  bool pop(io_uring_cqe& completion);

  bool supports(unsigned opcode) const { return opcode < opcodes_.size() && opcodes_[opcode]; }
  bool skips_success() const { return (ring_.features & IORING_FEAT_CQE_SKIP) != 0; }
  unsigned flags() const { return ring_.flags; }
  io_uring& raw() { return ring_; }
  const io_uring& raw() const { return ring_; }

 private:
  void check_entered(int result) const;

  io_uring ring_{};
  std::bitset<256> opcodes_;
  bool created_ = false;
  bool enabled_ = false;
};

}  // namespace rnbd
