#pragma once
// The numbers of one client path over all its connections and attempts. Each connection's are
// written on its lane's loop; everything else is the home loop's.

#include <memory>
#include <vector>

#include "rtrs/client/session.h"
#include "rtrs/counters.h"

namespace rnbd::rtrs::client {

struct ConnectionCounters : ChannelCounters {
  explicit ConnectionCounters(unsigned cpus) : migrated_from(cpus), migrated_to(cpus) {}

  Counter failed_over;        // requests of another path, sent again here
  Histogram wire;             // from posted to answered
  CpuCounters migrated_from;  // posted on this CPU and answered on another: the loop had moved
  CpuCounters migrated_to;
};

class PathCounters final {
 public:
  PathCounters(std::size_t connections, unsigned cpus);

  ConnectionCounters& of(std::size_t cid) { return *connections_[cid]; }
  std::uint64_t reconnects() const { return reconnects_; }
  std::uint64_t reconnect_failures() const { return reconnect_failures_; }
  void reconnected() { ++reconnects_; }
  void reconnect_failed() { ++reconnect_failures_; }

  std::uint64_t received() const;  // by all connections; no reset touches it
  void reset(CounterGroup group);
  void fill(PathInfo& info) const;  // what was counted since the resets

 private:
  struct Sums {
    RequestSums requests{};
    std::uint64_t failed_over = 0;
    LatencyCounts wire{};
    std::vector<std::uint64_t> migrated_from{}, migrated_to{};
    std::uint64_t inflight = 0;
  };
  Sums sums() const;

  std::vector<std::unique_ptr<ConnectionCounters>> connections_;  // by cid
  std::uint64_t reconnects_ = 0;
  std::uint64_t reconnect_failures_ = 0;
  Sums base_;  // at the last reset
};

}  // namespace rnbd::rtrs::client
