#pragma once
// How long things took, as a log-linear histogram of fixed size: eight buckets per power of two, so
// a quantile is off by an eighth at most; from a microsecond to about a minute, what is longer
// counts as that. Adding is a few instructions: no allocation, no lock. One writer, any reader:
// what a reader takes meanwhile lacks at most what is being added.

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/counter.h"
#include "base/loop.h"

namespace rnbd {

// The buckets: times of [0, 8) microseconds one by one, then each power of two in eight.
struct LatencyBuckets {
  static constexpr unsigned kFineBits = 3;
  static constexpr unsigned kFine = 1U << kFineBits;
  static constexpr unsigned kTopBit = 25;  // of the longest time told apart: 2^26 µs are 67 s
  static constexpr std::size_t kCount = (kTopBit - kFineBits + 2) * kFine;

  static constexpr std::size_t index(std::uint64_t us) {
    if (us < kFine) return us;
    const auto top = static_cast<unsigned>(std::bit_width(us)) - 1;
    if (top > kTopBit) return kCount - 1;
    return std::size_t{top - kFineBits} * kFine + (us >> (top - kFineBits));
  }
  static constexpr std::uint64_t first(std::size_t bucket) {  // the shortest time in it
    if (bucket < 2 * kFine) return bucket;
    const std::size_t shift = bucket / kFine - 1;
    return (kFine + bucket % kFine) << shift;
  }
  static constexpr std::uint64_t last(std::size_t bucket) { return first(bucket + 1) - 1; }
};

// What was counted: a plain value, to be merged and asked.
class LatencyCounts {
 public:
  using Buckets = std::array<std::uint64_t, LatencyBuckets::kCount>;

  std::uint64_t count() const;
  Duration sum() const { return Duration(sum_ns_); }
  Duration max() const { return Duration(max_ns_); }
  // The time that `share` of all were not longer than: 0.5 for the median. Zero when there is none.
  Duration quantile(double share) const;
  const Buckets& buckets() const { return buckets_; }

  LatencyCounts& operator+=(const LatencyCounts& other);
  // Takes back what was counted before. The longest time is then known to its bucket only, unless
  // it was the longest ever.
  LatencyCounts& operator-=(const LatencyCounts& earlier);

 private:
  friend class Histogram;
  Buckets buckets_{};
  std::int64_t sum_ns_ = 0;
  std::int64_t max_ns_ = 0;
};

class Histogram {
 public:
  void add(Duration time) {
    const auto ns = static_cast<std::uint64_t>(time.count() > 0 ? time.count() : 0);
    buckets_[LatencyBuckets::index(ns / 1000)].add();
    sum_ns_.add(ns);
    max_ns_.raise_to(ns);
  }
  LatencyCounts counts() const;  // any thread

 private:
  std::array<Counter, LatencyBuckets::kCount> buckets_;
  Counter sum_ns_;
  Counter max_ns_;
};

}  // namespace rnbd
