#pragma once
// Numbers of one connection, written by its loop and read by the loop of its path: statistics, and
// the sign of life that heartbeats look at. One cache line each, so that loops do not disturb each
// other.

#include <atomic>
#include <cstdint>

#include "rtrs/options.h"

namespace rnbd::rtrs {

// A number with one writer and any reader. Adding costs what a plain addition costs.
class Counter {
 public:
  void add(std::uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void subtract(std::uint64_t n = 1) { add(std::uint64_t{0} - n); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

struct alignas(64) ChannelCounters {
  Counter received;  // receives of any kind: the peer lives
  Counter reads;
  Counter read_bytes;
  Counter writes;
  Counter write_bytes;
  Counter inflight;

  void started(Direction direction, std::uint64_t bytes) {
    (direction == Direction::read ? reads : writes).add();
    (direction == Direction::read ? read_bytes : write_bytes).add(bytes);
    inflight.add();
  }
};

}  // namespace rnbd::rtrs
