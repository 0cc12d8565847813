#include "rtrs/client/path_counters.h"

namespace rnbd::rtrs::client {
namespace {

void subtract(std::vector<std::uint64_t>& from, const std::vector<std::uint64_t>& what) {
  for (std::size_t i = 0; i < what.size(); ++i) from[i] -= what[i];
}

}  // namespace

PathCounters::PathCounters(std::size_t connections, unsigned cpus) {
  for (std::size_t cid = 0; cid < connections; ++cid)
    connections_.push_back(std::make_unique<ConnectionCounters>(cpus));
}

std::uint64_t PathCounters::received() const {
  std::uint64_t sum = 0;
  for (const auto& connection : connections_) sum += connection->received.get();
  return sum;
}

PathCounters::Sums PathCounters::sums() const {
  Sums sums;
  for (const auto& connection : connections_) {
    const bool service = connection == connections_.front();
    sums.requests.add(*connection);
    sums.inflight += connection->inflight.get();
    sums.failed_over += connection->failed_over.get();
    if (!service) sums.wire += connection->wire.counts();  // no I/O, and an OPEN may take long
    connection->migrated_from.add_to(sums.migrated_from);
    connection->migrated_to.add_to(sums.migrated_to);
  }
  return sums;
}

void PathCounters::reset(CounterGroup group) {
  Sums now = sums();
  if (covers(group, CounterGroup::rdma)) {
    base_.requests = now.requests;
    base_.failed_over = now.failed_over;
    base_.wire = now.wire;
  }
  if (covers(group, CounterGroup::cpu_migration_from)) base_.migrated_from = now.migrated_from;
  if (covers(group, CounterGroup::cpu_migration_to)) base_.migrated_to = now.migrated_to;
  if (covers(group, CounterGroup::reconnects)) reconnects_ = reconnect_failures_ = 0;
}

void PathCounters::fill(PathInfo& info) const {
  Sums now = sums();
  now.requests -= base_.requests;
  now.wire -= base_.wire;
  subtract(now.migrated_from, base_.migrated_from);
  subtract(now.migrated_to, base_.migrated_to);
  info.reads = now.requests.reads;
  info.read_bytes = now.requests.read_bytes;
  info.writes = now.requests.writes;
  info.write_bytes = now.requests.write_bytes;
  info.errors = now.requests.errors;
  info.inflight = now.inflight;
  info.failed_over = now.failed_over - base_.failed_over;
  info.wire = now.wire;
  info.migrated_from = std::move(now.migrated_from);
  info.migrated_to = std::move(now.migrated_to);
  info.reconnects = reconnects_;
  info.reconnect_failures = reconnect_failures_;
}

}  // namespace rnbd::rtrs::client
