#pragma once
// Numbers of one connection, written by its loop and read by the loop of its path: statistics, and
// the sign of life that heartbeats look at. On cache lines of their own, so that loops do not
// disturb each other. Never set back: a reset remembers what there was.

#include <cstdint>
#include <memory>
#include <vector>

#include "base/counter.h"
#include "base/histogram.h"
#include "rtrs/options.h"

namespace rnbd::rtrs {

using rnbd::Counter;

// What a reset is of, by the names of the files under stats/.
enum class CounterGroup : std::uint8_t {
  rdma,  // all that is counted by request, latencies too
  reconnects,
  cpu_migration_from,
  cpu_migration_to,
  all
};
inline bool covers(CounterGroup reset, CounterGroup group) {
  return reset == CounterGroup::all || reset == group;
}

struct alignas(64) ChannelCounters {
  Counter received;  // receives of any kind: the peer lives
  Counter reads;
  Counter read_bytes;
  Counter writes;
  Counter write_bytes;
  Counter inflight;
  Counter errors;  // requests answered with an error

  void started(Direction direction, std::uint64_t bytes) {
    (direction == Direction::read ? reads : writes).add();
    (direction == Direction::read ? read_bytes : write_bytes).add(bytes);
    inflight.add();
  }
};

// One number per CPU.
class CpuCounters {
 public:
  explicit CpuCounters(unsigned cpus) : cpus_(cpus), counters_(new Counter[cpus]) {}
  void add(unsigned cpu) {
    if (cpu < cpus_) counters_[cpu].add();
  }
  void add_to(std::vector<std::uint64_t>& sums) const {
    sums.resize(cpus_);
    for (unsigned cpu = 0; cpu < cpus_; ++cpu) sums[cpu] += counters_[cpu].get();
  }

 private:
  unsigned cpus_;
  std::unique_ptr<Counter[]> counters_;
};

// What a path's requests add up to, in one sum or since a reset.
struct RequestSums {
  std::uint64_t reads = 0, read_bytes = 0, writes = 0, write_bytes = 0, errors = 0;

  void add(const ChannelCounters& of) {
    reads += of.reads.get();
    read_bytes += of.read_bytes.get();
    writes += of.writes.get();
    write_bytes += of.write_bytes.get();
    errors += of.errors.get();
  }
  RequestSums& operator-=(const RequestSums& earlier) {
    reads -= earlier.reads;
    read_bytes -= earlier.read_bytes;
    writes -= earlier.writes;
    write_bytes -= earlier.write_bytes;
    errors -= earlier.errors;
    return *this;
  }
};

}  // namespace rnbd::rtrs
