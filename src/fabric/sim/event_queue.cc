#include "fabric/sim/event_queue.h"

namespace rnbd::fabric::sim {

const char* event_kind_name(EventKind kind) {
  switch (kind) {
    case EventKind::call:
      return "call";
    case EventKind::post:
      return "post";
    case EventKind::deferred:
      return "deferred";
    case EventKind::timer:
      return "timer";
    case EventKind::transmit:
      return "transmit";
    case EventKind::done:
      return "done";
    case EventKind::arrival:
      return "arrival";
    case EventKind::connected:
      return "connected";
    case EventKind::broken:
      return "broken";
    case EventKind::closed:
      return "closed";
    case EventKind::device:
      return "device";
    case EventKind::thaw:
      return "thaw";
  }
  return "unknown";
}

EventQueue::~EventQueue() {
  for (const Entry& entry : heap_) entry.event->index_ = Event::kNone;
}

void EventQueue::schedule(Event& event, TimePoint time) {
  event.cancel();
  event.queue_ = this;
  heap_.push_back({time, sequence_++, &event});
  event.index_ = heap_.size() - 1;
  sift_up(event.index_);
}

void EventQueue::cancel(Event& event) {
  const std::size_t index = event.index_;
  RNBD_ASSERT(heap_[index].event == &event);
  event.index_ = Event::kNone;
  const Entry last = heap_.back();
  heap_.pop_back();
  if (last.event == &event) return;
  place(index, last);
  sift_up(index);
  sift_down(last.event->index_);
}

Event& EventQueue::pop() {
  Event& event = *heap_.front().event;
  cancel(event);
  return event;
}

void EventQueue::sift_up(std::size_t index) {
  const Entry entry = heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (!entry.before(heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, entry);
}

void EventQueue::sift_down(std::size_t index) {
  const Entry entry = heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1].before(heap_[child])) ++child;
    if (!heap_[child].before(entry)) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, entry);
}

}  // namespace rnbd::fabric::sim
