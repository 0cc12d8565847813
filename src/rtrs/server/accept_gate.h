#pragma once
// Whether a path's requests are accepted. Opens once and shuts once, and shutting wins: a path that
// has begun to close, or that its client has given up, executes nothing more, on no connection.
// Any thread. A path is known by its gate wherever several paths meet.

#include <atomic>
#include <cstdint>

#include "base/mutation.h"

namespace rnbd::rtrs::server {

class alignas(64) AcceptGate {
 public:
  bool open() const {
    const std::uint8_t state = state_.load(std::memory_order_acquire);
    return state == kOpen || (broken(Rule::r5) && state == kShut);
  }
  bool shut() const { return state_.load(std::memory_order_acquire) == kShut; }
  void try_open() {
    std::uint8_t expected = kNew;
    state_.compare_exchange_strong(expected, kOpen, std::memory_order_acq_rel);
  }
  void shut_now() { state_.store(kShut, std::memory_order_release); }

 private:
  static constexpr std::uint8_t kNew = 0, kOpen = 1, kShut = 2;
  std::atomic<std::uint8_t> state_{kNew};
};

}  // namespace rnbd::rtrs::server
