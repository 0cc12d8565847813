#pragma once
// All queues of one ublk device, each on its reactor, as a thread that may block sees them: every
// wait is bounded. Kept alive by whoever works with it and by its own calls on their way to the
// reactors, hence shared. The reactors outlive it; the device outlives its queues.

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "frontend/ublk/kernel_queue.h"

namespace rnbd::ublk {

struct QueuePlan {
  std::uint16_t count = 1;  // more than reactors: several share one
  std::uint16_t depth = 128;
  std::uint32_t io_bytes = 0;
  bool ioctl_encoded = true;
};

class QueueSet final : public std::enable_shared_from_this<QueueSet> {
 public:
  QueueSet(std::span<Reactor* const> reactors, block::Device& device)
      : reactors_(reactors.begin(), reactors.end()), device_(device) {}

  // A thread that may block. Opens a queue on each reactor; then fetches. On an error (ETIMEDOUT: a
  // reactor does not answer) call fail_all() and when_drained() to be rid of what was made.
  std::error_code start(UniqueFd device, const QueuePlan& plan, Duration limit);
  // Waits until the driver holds no tag any more, as after a stop; then lets go of its file.
  bool wait_kernel_free(Duration limit);

  // Any thread.
  void fail_all();
  void leave();
  // From `home`, when the backend gave back every request and its queues are destroyed. After
  // fail_all() or leave(). Where the driver did not let go (wait_kernel_free), what it may still
  // use stays for good.
  void when_drained(Loop& home, std::function<void()> done);
  // From a reactor, once per queue, when somebody else stopped the device. Before start().
  void set_on_gone(std::function<void()> call) { on_gone_ = std::move(call); }

  // The buffers of queue `index`, after start(); reactor(index) is the thread they are used on.
  std::span<std::byte> arena(std::size_t index) const { return queues_[index]->arena(); }
  std::size_t count() const { return queues_.size(); }
  Reactor& reactor(std::size_t index) const { return *reactors_[index % reactors_.size()]; }

 private:
  // Runs `call(index)` on the reactor of every queue; it calls its second argument when it is done.
  using Step = std::function<void(std::size_t index, std::function<void()> done)>;
  void on_each(const Step& step, std::function<void()> all_done);
  bool on_each_and_wait(const Step& step, Duration limit);
  void keep_for_good();

  std::vector<Reactor*> reactors_;
  block::Device& device_;
  UniqueFd file_;
  std::vector<std::unique_ptr<KernelQueue>> queues_;  // each touched on its reactor only
  std::atomic<int> start_error_{0};
  bool kernel_free_ = true;
  std::shared_ptr<QueueSet> kept_;
  QueueSet* next_kept_ = nullptr;
  std::function<void()> on_gone_;
};

}  // namespace rnbd::ublk
