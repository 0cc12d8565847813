#include "measure.h"

#include <sched.h>

#include <cstdio>

namespace rnbd::bench {

void print_row(const Row& row) {
  const double iops = static_cast<double>(row.ios) / row.seconds;
  std::printf(
      "{\"what\":\"%s\",\"ios\":%llu,\"iops\":%.0f,\"mbps\":%.1f,\"mean_us\":%.2f,\"p50_us\":%.2f,"
      "\"p99_us\":%.2f,"
      "\"cpu_us_per_io\":%.3f}\n",
      row.what.c_str(), static_cast<unsigned long long>(row.ios), iops,
      iops * static_cast<double>(row.size) / 1e6, row.latency.mean_us(),
      row.latency.percentile_us(0.5), row.latency.percentile_us(0.99), row.cpu_us_per_io);
  std::fflush(stdout);
}

void pin_to(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace rnbd::bench
