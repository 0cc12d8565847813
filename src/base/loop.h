#pragma once
// Time and execution as the pure modules see them. A Loop is one thread's event loop: the reactor
// in production, virtual time in the simulator. Nothing here blocks; nothing calls back before it
// returns.

#include <chrono>
#include <cstddef>
#include <functional>

#include "base/intrusive_list.h"

namespace rnbd {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

// A call to be made later from the loop, embedded in the object it calls. Destroying it takes it
// back.
//   Task flush_ = Task::of<&Connection::flush>(this);
class Task : public ListNode {
 public:
  using Function = void (*)(void* self);
  Task(Function function, void* self) : function_(function), self_(self) {}
  template <auto Method, class T>
  static Task of(T* self) {
    return Task([](void* object) { (static_cast<T*>(object)->*Method)(); }, self);
  }
  void run() { function_(self_); }

 private:
  Function function_;
  void* self_;
};

class Timers;

// A call to be made at a time. Destroying it disarms it. Belongs to the thread of its Timers.
class Timer {
 public:
  using Function = void (*)(void* self);
  Timer(Timers& timers, Function function, void* self)
      : timers_(timers), function_(function), self_(self) {}
  template <auto Method, class T>
  static Timer of(Timers& timers, T* self) {
    return Timer(
        timers, [](void* object) { (static_cast<T*>(object)->*Method)(); }, self);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer() { disarm(); }

  void arm_at(TimePoint deadline);  // re-arming moves the deadline
  void arm_after(Duration delay);
  void disarm();
  bool armed() const { return index_ != kNotArmed; }
  TimePoint deadline() const { return deadline_; }

 private:
  friend class TimerQueue;
  static constexpr std::size_t kNotArmed = static_cast<std::size_t>(-1);
  Timers& timers_;
  Function function_;
  void* self_;
  TimePoint deadline_{};
  std::size_t index_ = kNotArmed;
};

class Timers {
 public:
  virtual ~Timers() = default;
  // Monotonic time of this round of the loop: cheap, and the same for all handlers of one event.
  virtual TimePoint now() const = 0;
  // The time this instant, for what a round is too coarse a measure. Costs tens of nanoseconds.
  virtual TimePoint precise_now() const { return now(); }
  virtual void arm(Timer& timer, TimePoint deadline) = 0;
  virtual void disarm(Timer& timer) = 0;
};

class Executor {
 public:
  virtual ~Executor() = default;
  // Runs `task` once, from the loop, after the current handler returned and before the loop sleeps.
  // Deferring a task that is already waiting is a no-op. Owner's thread only.
  virtual void defer(Task& task) = 0;
  // Runs `call` on the loop's thread. Any thread; control path only (it allocates and locks).
  virtual void post(std::function<void()> call) = 0;
  virtual bool on_this_thread() const = 0;
  // The CPU this round runs on, and how many this machine may have.
  virtual unsigned cpu() const { return 0; }
  virtual unsigned cpu_count() const { return 1; }
};

class Loop : public Timers, public Executor {};

inline void Timer::arm_at(TimePoint deadline) { timers_.arm(*this, deadline); }
inline void Timer::arm_after(Duration delay) { timers_.arm(*this, timers_.now() + delay); }
inline void Timer::disarm() {
  if (armed()) timers_.disarm(*this);
}

}  // namespace rnbd
