#include "daemon/admin/stages.h"

#include <bit>

namespace rnbd::daemon {
namespace {

std::uint64_t microseconds(Duration time) {
  return static_cast<std::uint64_t>(time / std::chrono::microseconds(1));
}

// By powers of two: enough to draw, few enough to read.
std::vector<std::uint64_t> by_powers_of_two(const LatencyCounts& counts) {
  std::vector<std::uint64_t> powers;
  for (std::size_t i = 0; i < LatencyBuckets::kCount; ++i) {
    if (counts.buckets()[i] == 0) continue;
    const auto power = static_cast<std::size_t>(std::bit_width(LatencyBuckets::first(i)));
    powers.resize(power + 1);
    powers[power] += counts.buckets()[i];
  }
  return powers;
}

}  // namespace

StageView stage_view(std::string stage, const LatencyCounts& counts) {
  return {.stage = std::move(stage),
          .count = counts.count(),
          .sum_us = microseconds(counts.sum()),
          .p50_us = microseconds(counts.quantile(0.5)),
          .p90_us = microseconds(counts.quantile(0.9)),
          .p99_us = microseconds(counts.quantile(0.99)),
          .p999_us = microseconds(counts.quantile(0.999)),
          .max_us = microseconds(counts.max()),
          .buckets = by_powers_of_two(counts)};
}

}  // namespace rnbd::daemon
