#pragma once
// The armed timers of one loop, earliest first: a binary heap of borrowed Timers. One thread.

#include <optional>
#include <vector>

#include "base/loop.h"

namespace rnbd {

class TimerQueue {
 public:
  TimerQueue() = default;
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;
  ~TimerQueue();

  void arm(Timer& timer, TimePoint deadline);
  void disarm(Timer& timer);
  std::optional<TimePoint> next_deadline() const;
  // Fires every timer due at `now`, each disarmed before its call; true if any fired.
  // A timer re-armed by its own call for a time not later than `now` fires in the next run.
  bool run_due(TimePoint now);

 private:
  void place(std::size_t index, Timer* timer);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);
  std::vector<Timer*> heap_;
};

}  // namespace rnbd
