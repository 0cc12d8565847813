#pragma once
// What is going to happen in a simulated world, earliest first, and in order of scheduling where
// times are equal. Events are embedded in the objects they concern: nothing is allocated per event.

#include <cstdint>
#include <vector>

#include "base/loop.h"

namespace rnbd::fabric::sim {

class SimLoop;

// What an event is, for the trace.
enum class EventKind : std::uint8_t {
  call,
  post,
  deferred,
  timer,
  transmit,
  done,
  arrival,
  connected,
  broken,
  closed,
  device,
  thaw
};
const char* event_kind_name(EventKind kind);

// Something that happens once at its time. Destroying it takes it back.
class Event {
 public:
  using Function = void (*)(void* self);
  Event(EventKind kind, Function function, void* self)
      : function_(function), self_(self), kind_(kind) {}
  template <auto Method, class T>
  static Event of(EventKind kind, T* self) {
    return Event(
        kind, [](void* object) { (static_cast<T*>(object)->*Method)(); }, self);
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cancel(); }

  // On whose loop it happens (nullptr: outside of all) and the number the trace shows.
  void set_place(SimLoop* loop, std::uint64_t id) {
    loop_ = loop;
    id_ = id;
  }
  bool scheduled() const { return index_ != kNone; }
  void cancel();
  SimLoop* loop() const { return loop_; }
  EventKind kind() const { return kind_; }
  std::uint64_t id() const { return id_; }
  void fire() { function_(self_); }

 private:
  friend class EventQueue;
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  Function function_;
  void* self_;
  SimLoop* loop_ = nullptr;
  class EventQueue* queue_ = nullptr;
  std::uint64_t id_ = 0;
  std::size_t index_ = kNone;
  EventKind kind_;
};

class EventQueue {
 public:
  EventQueue() = default;
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;
  ~EventQueue();

  bool empty() const { return heap_.empty(); }
  TimePoint next_time() const { return heap_.front().time; }
  // Scheduling a scheduled event moves it.
  void schedule(Event& event, TimePoint time);
  void cancel(Event& event);
  Event& pop();

 private:
  struct Entry {
    TimePoint time;
    std::uint64_t sequence;
    Event* event;
    bool before(const Entry& other) const {
      return time != other.time ? time < other.time : sequence < other.sequence;
    }
  };
  void place(std::size_t index, const Entry& entry) {
    heap_[index] = entry;
    entry.event->index_ = index;
  }
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);
  std::vector<Entry> heap_;
  std::uint64_t sequence_ = 0;
};

inline void Event::cancel() {
  if (scheduled()) queue_->cancel(*this);
}

}  // namespace rnbd::fabric::sim
