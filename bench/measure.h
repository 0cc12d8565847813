#pragma once
// What every row of a measurement needs: latencies, CPU time of processes, and the row itself.

#include <sys/types.h>
#include <ctime>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <string>

namespace rnbd::bench {

using SteadyClock = std::chrono::steady_clock;

inline std::int64_t now_ns() { return SteadyClock::now().time_since_epoch().count(); }

// Latencies in nanoseconds, in buckets 1/16 of a power of two wide: at most 6 % off.
class Histogram {
 public:
  void add(std::int64_t ns) {
    const auto value = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 1));
    const int top = 63 - __builtin_clzll(value);
    const std::uint64_t fine = top < 4 ? 0 : (value >> (top - 4)) & 15;
    ++buckets_[static_cast<std::size_t>(top) * 16 + fine];
    ++count_;
    sum_ += value;
  }
  std::uint64_t count() const { return count_; }
  double mean_us() const {
    return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_) / 1e3;
  }
  double percentile_us(double fraction) const {
    const auto wanted = static_cast<std::uint64_t>(fraction * static_cast<double>(count_));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      seen += buckets_[i];
      if (seen > wanted) {
        const double low = static_cast<double>(std::uint64_t{1} << (i / 16));
        return low * (1.0 + (static_cast<double>(i % 16) + 0.5) / 16.0) / 1e3;
      }
    }
    return 0;
  }
  void merge(const Histogram& other) {
    for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    sum_ += other.sum_;
  }
  void clear() { *this = Histogram(); }

 private:
  std::array<std::uint64_t, 64 * 16> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t sum_ = 0;
};

// User and system time a process has used, in nanoseconds; 0 when it cannot be read.
inline std::int64_t process_cpu_ns(pid_t pid) {
  clockid_t clock = 0;
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

struct Row {
  std::string what;
  std::uint64_t ios = 0;
  std::uint64_t size = 0;  // payload bytes of one I/O
  double seconds = 0;
  double cpu_us_per_io = 0;  // both ends together
  Histogram latency;
};

// Prints the row as one line of JSON on stdout.
void print_row(const Row& row);
// Runs the calling thread on `cpu` only; negative: anywhere.
void pin_to(int cpu);

}  // namespace rnbd::bench
