#include "daemon/admin/stages.h"

namespace rnbd::daemon {
namespace {

std::uint64_t microseconds(Duration time) {
  return static_cast<std::uint64_t>(time / std::chrono::microseconds(1));
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
          .max_us = microseconds(counts.max())};
}

}  // namespace rnbd::daemon
