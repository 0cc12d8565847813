#include "base/timer_queue.h"

#include <utility>

namespace rnbd {

TimerQueue::~TimerQueue() {
  for (Timer* timer : heap_) timer->index_ = Timer::kNotArmed;
}

void TimerQueue::arm(Timer& timer, TimePoint deadline) {
  if (timer.armed()) disarm(timer);
  timer.deadline_ = deadline;
  heap_.push_back(&timer);
  timer.index_ = heap_.size() - 1;
  sift_up(timer.index_);
}

void TimerQueue::disarm(Timer& timer) {
  RNBD_ASSERT(timer.armed());
  const std::size_t index = timer.index_;
  RNBD_ASSERT(heap_[index] == &timer);
  timer.index_ = Timer::kNotArmed;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  sift_down(last->index_);
}

std::optional<TimePoint> TimerQueue::next_deadline() const {
  if (heap_.empty()) return std::nullopt;
  return heap_.front()->deadline_;
}

bool TimerQueue::run_due(TimePoint now) {
  bool fired = false;
  // Bounded by the timers armed at entry, so a timer that re-arms itself cannot hold the loop.
  for (std::size_t budget = heap_.size(); budget > 0 && !heap_.empty(); --budget) {
    Timer& timer = *heap_.front();
    if (timer.deadline_ > now) break;
    disarm(timer);
    fired = true;
    timer.function_(timer.self_);
  }
  return fired;
}

void TimerQueue::place(std::size_t index, Timer* timer) {
  heap_[index] = timer;
  timer->index_ = index;
}

void TimerQueue::sift_up(std::size_t index) {
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (heap_[parent]->deadline_ <= heap_[index]->deadline_) return;
    Timer* child = heap_[index];
    place(index, heap_[parent]);
    place(parent, child);
    index = parent;
  }
}

void TimerQueue::sift_down(std::size_t index) {
  for (;;) {
    std::size_t least = index;
    for (std::size_t child = 2 * index + 1; child <= 2 * index + 2 && child < heap_.size();
         ++child) {
      if (heap_[child]->deadline_ < heap_[least]->deadline_) least = child;
    }
    if (least == index) return;
    Timer* parent = heap_[index];
    place(index, heap_[least]);
    place(least, parent);
    index = least;
  }
}

}  // namespace rnbd
