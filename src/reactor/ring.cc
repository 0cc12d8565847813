#include "reactor/ring.h"

#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd {
namespace {

constexpr unsigned kAlways = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
// Best first: kernel 6.1, 6.0, 5.19, 5.18, older.
constexpr std::array<unsigned, 5> kWishes = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
        IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
        IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
    IORING_SETUP_SUBMIT_ALL,
    0,
};

}  // namespace

Ring::~Ring() {
  if (created_) io_uring_queue_exit(&ring_);
}

std::error_code Ring::create(unsigned entries) {
  int result = -EINVAL;
  for (const unsigned wish : kWishes) {
    io_uring_params params{};
    params.flags = kAlways | wish;
    params.cq_entries = entries * 4;
    result = io_uring_queue_init_params(entries, &ring_, &params);
    if (result != -EINVAL) break;
  }
  if (result < 0) return from_errno(-result);
  created_ = true;
  if (io_uring_probe* probe = io_uring_get_probe_ring(&ring_)) {
    for (unsigned op = 0; op < opcodes_.size(); ++op) {
      if (op <= probe->last_op && io_uring_opcode_supported(probe, static_cast<int>(op)) != 0)
        opcodes_.set(op);
    }
    io_uring_free_probe(probe);
  }
  return {};
}

std::error_code Ring::enable() {
  // The library of Debian 12 declares io_uring_enable_rings() and does not export it.
  if (!enabled_) {
    const int result = io_uring_register(static_cast<unsigned>(ring_.ring_fd),
                                         IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
    if (result < 0) return from_errno(-result);
    enabled_ = true;
  }
  io_uring_register_ring_fd(&ring_);  // saves a descriptor look-up per enter; refused is fine
  return {};
}

void Ring::disable() {
  // The registration belongs to this thread: undo it here, not wherever the ring is destroyed.
  if (ring_.enter_ring_fd != ring_.ring_fd) io_uring_unregister_ring_fd(&ring_);
}

io_uring_sqe* Ring::get_sqe() {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    RNBD_ASSERT(enabled_);  // more operations before the loop runs than the ring has entries
    check_entered(io_uring_submit(&ring_));
    entry = io_uring_get_sqe(&ring_);
  }
  return entry;
}

bool Ring::cqe_ready() const { return io_uring_cq_ready(&ring_) != 0; }

bool Ring::needs_flush() const {
  if (io_uring_sq_ready(&ring_) != 0) return true;
  const unsigned kernel_flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
  return (kernel_flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void Ring::flush() { check_entered(io_uring_submit_and_get_events(&ring_)); }

void Ring::wait(std::optional<Duration> timeout) {
  if (!timeout) {
    check_entered(io_uring_submit_and_wait(&ring_, 1));
    return;
  }
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*timeout);
  __kernel_timespec limit{};
  limit.tv_sec = seconds.count();
  limit.tv_nsec = (*timeout - seconds).count();
  io_uring_cqe* first = nullptr;
  check_entered(io_uring_submit_and_wait_timeout(&ring_, &first, 1, &limit, nullptr));
}

bool Ring::pop(io_uring_cqe& completion) {
  const unsigned head = *ring_.cq.khead;
  if (head == __atomic_load_n(ring_.cq.ktail, __ATOMIC_ACQUIRE)) return false;
  // The entry is copied and given back first: handlers may submit, and submitting may post
  // completions.
  std::memcpy(&completion, &ring_.cq.cqes[head & *ring_.cq.kring_mask], sizeof completion);
  io_uring_cq_advance(&ring_, 1);
  return true;
}

// Anything but these means that we called wrongly; what was not submitted stays queued.
void Ring::check_entered(int result) const {
  const bool passing =
      result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN || result == -EBUSY;
  if (!passing) log_error("io_uring_enter: {}", std::strerror(-result));
  RNBD_ASSERT(passing);
}

}  // namespace rnbd
