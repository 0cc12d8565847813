#pragma once
// One thread, one io_uring ring: the loop everything of production runs on. Each round: poll hooks,
// reap the ring, due timers, mailbox, deferred tasks; then, without work, it spins for a learned
// while and sleeps in the ring. An idle reactor burns nothing. Objects made for a reactor are used
// on its thread only: that is the thread that made it until start() or run(), then the loop's, and
// after join() the one that joined. Destroy those objects while the reactor lives, and only with
// none of their operations in flight.

#include <liburing.h>

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/loop.h"
#include "base/timer_queue.h"
#include "reactor/buffer_table.h"
#include "reactor/io_op.h"
#include "reactor/mailbox.h"
#include "reactor/poll_pool.h"
#include "reactor/ring.h"
#include "reactor/spin.h"
#include "reactor/watch.h"

namespace rnbd {

// Asked once per round, and again and again while spinning, before the ring is reaped; true means
// it did work. For sources without a descriptor, and for sockets that are hot. A sleeping loop does
// not ask.
class PollHook : public ListNode {
 public:
  virtual ~PollHook() = default;
  virtual bool poll() = 0;
  // Asked before the loop sleeps: from now on new work must end the sleep (through a descriptor in
  // the ring). True if there was work meanwhile, so that the loop had better not sleep.
  virtual bool arm() { return false; }
};

struct ReactorOptions {
  std::string name = "reactor";  // thread name
  int cpu = -1;                  // pin to this CPU; -1 leaves it to the scheduler
  unsigned ring_entries = 1024;  // also the most operations submitted before the loop runs
  // Longest time to look for work before sleeping. The reactor learns how much of it pays; 0 =
  // never spin.
  Duration spin_max = std::chrono::microseconds(50);
};

class Reactor final : public Loop {
 public:
  static Result<std::unique_ptr<Reactor>> create(const ReactorOptions& options);
  ~Reactor() override;  // stops and joins; posted calls that did not run are dropped

  void start();  // runs the loop on a thread of its own, all signals blocked there
  void run();    // or: runs it on the calling thread until stop(); may be called again there
  void stop();   // any thread; returns at once. Before the loop runs, it makes run() return at once
  void join();   // waits for the thread of start()

  // Loop
  TimePoint now() const override { return running_ ? now_ : clock_now(); }
  TimePoint precise_now() const override { return clock_now(); }
  unsigned cpu() const override { return cpu_; }
  unsigned cpu_count() const override;
  void arm(Timer& timer, TimePoint deadline) override { timers_.arm(timer, deadline); }
  void disarm(Timer& timer) override { timers_.disarm(timer); }
  void defer(Task& task) override {
    if (!task.linked()) tasks_.push_back(task);
  }
  void post(std::function<void()> call) override;
  bool on_this_thread() const override {
    return owner_.load(std::memory_order_relaxed) == std::this_thread::get_id();
  }

  // Queues a ring operation: `prepare` fills the entry with an io_uring_prep_* call. It is
  // submitted with all others at the end of the round.
  template <class Prepare>
  void submit(IoOp& op, Prepare&& prepare) {
    io_uring_sqe* entry = ring_.get_sqe();
    prepare(entry);
    io_uring_sqe_set_data(entry, &op);
  }
  void cancel(IoOp& op);          // asks the kernel to end it; its complete() comes as ever
  void add_hook(PollHook& hook);  // PollHook unlinks itself when destroyed

  // Pins `memory` for READ_FIXED/WRITE_FIXED. The index, or -1 where the kernel does not want to:
  // then plain operations do the same more slowly. unregister_buffer(-1) does nothing.
  int register_buffer(std::span<std::byte> memory) { return buffers_.add(memory); }
  void unregister_buffer(int index) { buffers_.remove(index); }
  // The index of the registered region that holds all of these bytes, or -1.
  int buffer_index(const void* address, std::size_t length) const {
    return buffers_.find(address, length);
  }

  bool supports(unsigned opcode) const {
    return ring_.supports(opcode);
  }  // IORING_OP_*, as the kernel says

  struct Stats {
    std::uint64_t rounds = 0, enters = 0, sleeps = 0, spins = 0, spin_hits = 0, completions = 0;
  };
  Stats stats() const { return stats_; }  // own thread
  int ring_fd() const { return ring_.raw().ring_fd; }
  io_uring& ring() { return ring_.raw(); }
  PollPool& polls() { return polls_; }

 private:
  explicit Reactor(const ReactorOptions& options);
  static TimePoint clock_now() { return std::chrono::steady_clock::now(); }

  bool round();
  bool look_up_after_stall();
  bool poll_hooks();
  bool arm_hooks();
  bool ask_hooks(bool (PollHook::*question)());
  bool reap();
  bool run_tasks();
  void idle(bool worked);
  bool spin(TimePoint until);
  void sleep();
  void on_wake(std::uint32_t events);

  ReactorOptions options_;
  Ring ring_;
  BufferTable buffers_{ring_};
  PollPool polls_{*this};
  TimerQueue timers_;
  IntrusiveList<Task> tasks_;
  IntrusiveList<PollHook> hooks_;
  Mailbox mailbox_;
  Watch wake_watch_ = Watch::of<&Reactor::on_wake>(this);
  Spin spin_;
  Stats stats_;
  TimePoint now_{};
  TimePoint last_round_{};
  TimePoint idle_since_{};
  unsigned cpu_ = 0;
  bool running_ = false;
  std::atomic<bool> stop_{false};
  std::atomic<std::thread::id> owner_;
  std::thread thread_;
};

}  // namespace rnbd
