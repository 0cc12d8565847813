#pragma once
// The permits of one session: which of its paths runs the request of each. A client has one request
// per permit in flight, whatever path it goes over, and keeps the permit when it sends the request
// anew over another path. So a permit that comes on path B while path A still runs its request says
// two things (safety rule R4): the client has given up A as a whole, and nothing of A must take
// effect after what B asks for now. A's gate is shut at once; B's request waits for A's to end.
//
// Any thread. One compare-and-swap where nothing collides; a collision takes a lock
// (docs/decisions/0007-permit-collisions.md). A path is known by its gate; it must not go while it
// has a permit or waits for one.

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>

#include "rtrs/server/accept_gate.h"

namespace rnbd::rtrs::server {

// One that waits for a permit.
class PermitWaiter {
 public:
  virtual ~PermitWaiter() = default;
  // The permit is its path's now. On the thread that gave it up; must not call the table.
  virtual void on_permit_granted(std::uint32_t permit) = 0;
};

class Permits {
 public:
  enum class Outcome : std::uint8_t {
    taken,     // the path has it
    busy,      // the path had it already, or waits for it: the client broke the protocol (R2)
    waits,     // another path has it and is given up: on_permit_granted comes, unless taken back
    given_up,  // the client has given up this path itself: the request is of no more interest
  };

  explicit Permits(std::uint32_t count)
      : count_(count), slots_(std::make_unique<std::atomic<std::uintptr_t>[]>(count)) {}

  std::uint32_t count() const { return count_; }

  Outcome acquire(std::uint32_t permit, AcceptGate& path, PermitWaiter& waiter) {
    std::uintptr_t expected = kFree;
    if (slots_[permit].compare_exchange_strong(expected, id_of(path), std::memory_order_acq_rel,
                                               std::memory_order_acquire)) {
      return Outcome::taken;
    }
    return collide(permit, path, waiter);
  }
  // Gives it up: to the next that waits for it, if any.
  void release(std::uint32_t permit, AcceptGate& path) {
    std::uintptr_t expected = id_of(path);
    if (!slots_[permit].compare_exchange_strong(expected, kFree, std::memory_order_acq_rel,
                                                std::memory_order_acquire)) {
      hand_on(permit, path);
    }
  }
  // Waits no longer. False: the permit has been granted meanwhile, so it must be released.
  bool take_back(std::uint32_t permit, AcceptGate& path);

 private:
  struct Waiting {
    AcceptGate* path;
    PermitWaiter* waiter;
  };
  static constexpr std::uintptr_t kFree = 0;
  static constexpr std::uintptr_t kAwaited = 1;  // beside an owner: look into waiting_

  static std::uintptr_t id_of(AcceptGate& path) { return reinterpret_cast<std::uintptr_t>(&path); }
  Outcome collide(std::uint32_t permit, AcceptGate& path, PermitWaiter& waiter);
  void hand_on(std::uint32_t permit, AcceptGate& path);

  const std::uint32_t count_;
  const std::unique_ptr<std::atomic<std::uintptr_t>[]> slots_;
  std::mutex mutex_;
  std::map<std::uint32_t, std::deque<Waiting>> waiting_;  // guarded by mutex_; in order of arrival
};

}  // namespace rnbd::rtrs::server
