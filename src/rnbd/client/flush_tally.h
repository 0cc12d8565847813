#pragma once
// Whether a device has writes that its server acknowledged and that no flush has made safe yet:
// they are lost when the server's cache is (safety rule R9). Each lane counts its own changes; a
// flush, which is rare, adds them up. Any thread.

#include <atomic>
#include <cstdint>
#include <vector>

#include "rtrs/counters.h"

namespace rnbd::client {

class FlushTally {
 public:
  // A predecessor's, of which nothing is known: taken for unflushed.
  void inherit() { inherited_ = 1; }
  void watch(const rtrs::Counter& changes_of_a_lane) { lanes_.push_back(&changes_of_a_lane); }
  // What a flush that is sent from now on covers; to be handed to flushed() when it succeeded.
  std::uint64_t changes() const {
    std::uint64_t sum = inherited_;
    for (const rtrs::Counter* lane : lanes_) sum += lane->get();
    return sum;
  }
  void flushed(std::uint64_t covered) {
    std::uint64_t known = flushed_.load(std::memory_order_relaxed);
    while (known < covered && !flushed_.compare_exchange_weak(known, covered)) {
    }
  }
  bool unflushed() const { return flushed_.load() < changes(); }
  // A flush failed: what it was to make safe may be gone, and no later one can vouch for it, on
  // this server or, when it was restarted, on the next (safety rule R10).
  void fail() { failed_.store(true, std::memory_order_relaxed); }
  // An administrator lets go of all that may have been lost until now.
  void forgive() {
    flushed(changes());
    failed_.store(false, std::memory_order_relaxed);
  }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }

 private:
  std::vector<const rtrs::Counter*> lanes_;
  std::uint64_t inherited_ = 0;
  std::atomic<std::uint64_t> flushed_{0};
  std::atomic<bool> failed_{false};
};

}  // namespace rnbd::client
