#include "base/histogram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace rnbd {

std::uint64_t LatencyCounts::count() const {
  return std::accumulate(buckets_.begin(), buckets_.end(), std::uint64_t{0});
}

Duration LatencyCounts::quantile(double share) const {
  const std::uint64_t all = count();
  if (all == 0) return {};
  const auto wanted = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(all)));
  const std::uint64_t rank = std::clamp<std::uint64_t>(wanted, 1, all);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen < rank) continue;
    const auto longest = std::chrono::microseconds(LatencyBuckets::last(i));
    return i + 1 == buckets_.size() ? max() : std::min<Duration>(longest, max());
  }
  return max();
}

LatencyCounts& LatencyCounts::operator+=(const LatencyCounts& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  sum_ns_ += other.sum_ns_;
  max_ns_ = std::max(max_ns_, other.max_ns_);
  return *this;
}

LatencyCounts& LatencyCounts::operator-=(const LatencyCounts& earlier) {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    buckets_[i] -= std::min(buckets_[i], earlier.buckets_[i]);
    if (buckets_[i] != 0) longest = i;
  }
  sum_ns_ = std::max<std::int64_t>(sum_ns_ - earlier.sum_ns_, 0);
  if (count() == 0) {
    sum_ns_ = max_ns_ = 0;
  } else if (max_ns_ == earlier.max_ns_ && longest + 1 < buckets_.size()) {
    const Duration edge = std::chrono::microseconds(LatencyBuckets::first(longest + 1));
    max_ns_ = std::min<std::int64_t>(max_ns_, edge.count() - 1);
  }
  return *this;
}

LatencyCounts Histogram::counts() const {
  LatencyCounts counts;
  for (std::size_t i = 0; i < buckets_.size(); ++i) counts.buckets_[i] = buckets_[i].get();
  counts.sum_ns_ = static_cast<std::int64_t>(sum_ns_.get());
  counts.max_ns_ = static_cast<std::int64_t>(max_ns_.get());
  return counts;
}

}  // namespace rnbd
