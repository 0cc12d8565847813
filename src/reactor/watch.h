#pragma once
// Readiness of a descriptor, through a multishot poll in the ring of a reactor.

#include <cstdint>

namespace rnbd {

class Reactor;
class PollPool;

// Calls `on_ready` with poll(2) events whenever `fd` becomes ready (edge-like: read until EAGAIN or
// short). Ready at start counts as becoming ready. Stops when destroyed or stop()ped; no call
// afterwards, and both are fine from inside the call. If the kernel refuses the poll, the call gets
// POLLNVAL and the watch is stopped. The ring holds the open file until it has taken back the poll,
// at the end of the round: for a socket that must be reset at once, shutdown(2) before close(2).
class Watch {
 public:
  using Function = void (*)(void* self, std::uint32_t events);
  Watch(Function function, void* self) : function_(function), self_(self) {}
  ~Watch() { stop(); }
  template <auto Method, class T>
  static Watch of(T* self) {
    return Watch([](void* o, std::uint32_t events) { (static_cast<T*>(o)->*Method)(events); },
                 self);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  // `events` as for poll(2): POLLIN, POLLOUT, POLLRDHUP. Calling again changes the descriptor and
  // the mask.
  void start(Reactor& reactor, int fd, std::uint32_t events);
  void stop();
  bool active() const { return poll_ != nullptr; }

 private:
  friend class PollPool;
  struct Poll;  // the poll in the ring; outlives the Watch until its last completion
  Function function_;
  void* self_;
  Poll* poll_ = nullptr;
};

}  // namespace rnbd
