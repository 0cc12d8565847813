#pragma once
// One thread, one io_uring ring: the loop everything of production runs on. Each round: poll hooks, reap the
// ring, due timers, mailbox, deferred tasks; then, without work, it spins for a learned while and sleeps in
// the ring. An idle reactor burns nothing. Objects made for a reactor are used on its thread only.

#include <liburing.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/loop.h"
#include "base/timer_queue.h"

namespace rnbd {

// One ring operation in flight: give it to Reactor::sqe(), keep it alive until complete() was called.
struct IoOp {
  // `flags` are the CQE's. With IORING_CQE_F_MORE set further completions follow.
  void (*complete)(IoOp& op, int result, std::uint32_t flags) = nullptr;
};

// Calls `on_ready` with poll(2) events whenever `fd` becomes ready (edge-like: read until EAGAIN or short).
// Stops when destroyed or stop()ped; no call afterwards.
class Watch {
 public:
  using Function = void (*)(void* self, std::uint32_t events);
  Watch(Function function, void* self) : function_(function), self_(self) {}
  ~Watch() { stop(); }
  template <auto Method, class T>
  static Watch of(T* self) {
    return Watch([](void* o, std::uint32_t events) { (static_cast<T*>(o)->*Method)(events); }, self);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  // `events` as for poll(2): POLLIN, POLLOUT, POLLRDHUP. Calling again changes the mask.
  void start(class Reactor& reactor, int fd, std::uint32_t events);
  void stop();
  bool active() const { return poll_ != nullptr; }

 private:
  friend class Reactor;
  Function function_;
  void* self_;
  struct Poll;            // the multishot poll in the ring; outlives the Watch until its last completion
  Poll* poll_ = nullptr;
};

// Asked once per round before the ring is reaped; true means it did work. For sources without a descriptor,
// and for sockets that are hot.
class PollHook : public ListNode {
 public:
  virtual ~PollHook() = default;
  virtual bool poll() = 0;
};

struct ReactorOptions {
  std::string name = "reactor";  // thread name
  int cpu = -1;                  // pin to this CPU; -1 leaves it to the scheduler
  unsigned ring_entries = 1024;
  // Longest time to look for work before sleeping. The reactor learns how much of it pays; 0 = never spin.
  Duration spin_max = std::chrono::microseconds(50);
};

class Reactor final : public Loop {
 public:
  // Sets the ring up: SINGLE_ISSUER | DEFER_TASKRUN | COOP_TASKRUN, dropping what the kernel refuses.
  static Result<std::unique_ptr<Reactor>> create(const ReactorOptions& options);
  ~Reactor() override;  // stopped, joined

  void start();  // runs the loop on a thread of its own
  void run();    // or: runs it on the calling thread until stop()
  void stop();   // any thread; returns at once
  void join();   // waits for the thread of start()

  // Loop
  TimePoint now() const override { return now_; }
  void arm(Timer& timer, TimePoint deadline) override;
  void disarm(Timer& timer) override;
  void defer(Task& task) override;
  void post(std::function<void()> call) override;
  bool on_this_thread() const override;

  // A submission entry for `op`, to be filled with an io_uring_prep_* call *before* this returns to the loop
  // (the prep call resets the entry, so user_data is set by this reactor at submission: use prepare()).
  template <class Prepare>
  void submit(IoOp& op, Prepare&& prepare) {
    io_uring_sqe* entry = get_sqe();
    prepare(entry);
    io_uring_sqe_set_data(entry, &op);
  }
  void add_hook(PollHook& hook);  // PollHook unlinks itself when destroyed

  struct Stats {
    std::uint64_t rounds = 0, sleeps = 0, spins = 0, completions = 0;
  };
  Stats stats() const { return stats_; }  // own thread
  int ring_fd() const { return ring_.ring_fd; }
  io_uring& ring() { return ring_; }
};

}  // namespace rnbd
