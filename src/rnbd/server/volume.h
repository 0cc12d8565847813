#pragma once
// What Exports (on its home loop) and the IoHandlers (one per loop) share: an opened device, and
// one open of it by one session. Each part belongs to one loop; what another may look at is atomic.

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "rnbd/server/exports.h"
#include "rnbd/server/range_order.h"
#include "rtrs/counters.h"

namespace rnbd::server {

// One opened block device, shared by every mapping of the same identity and the same right to
// write, so that its write order and the fate of its flushes are one.
struct Volume {
  struct PerLoop {  // its loop's
    std::unique_ptr<block::Queue> queue;
    std::uint32_t mappings = 0;
  };

  Volume(OpenedDevice opened, std::string name_, bool read_only_, std::size_t loop_count)
      : device(std::move(opened.device)),
        identity(std::move(opened.identity)),
        place(std::move(opened.place)),
        name(std::move(name_)),
        read_only(read_only_),
        cache_life(opened.cache_life),
        loops(loop_count),
        size(device->limits().size) {}

  std::unique_ptr<block::Device> device;
  const std::string identity;
  const std::string place;
  const std::string name;  // it was first opened by
  const bool read_only;
  const CacheLife cache_life;
  RangeOrder order;  // any loop
  // A flush failed: acknowledged writes may be gone, so no later flush may claim success (safety
  // rule R10).
  std::atomic<bool> flush_failed{false};
  std::vector<PerLoop> loops;
  std::uint32_t mappings = 0;  // home's
  bool looking = false;        // the same: the timer's look at its size has not ended
  std::uint64_t size;          // the same: as last told to everybody
};

// A mapping (one open of one session) as one loop sees it. Owned by Exports, used by its loop from
// attach to drained; afterwards only the counters are looked at.
struct alignas(64) LoopMapping {
  std::uint64_t session_id = 0;
  std::uint32_t device_id = 0;
  AccessMode mode = AccessMode::rw;
  Volume* volume = nullptr;
  block::Queue* queue = nullptr;
  block::Limits limits;           // a copy; only the size may get stale
  std::function<void()> drained;  // set when closing

  Counter inflight, reads, read_bytes, writes, write_bytes, errors;
  Histogram server;  // from arrival to answer, less the backend's time
  Histogram backend;
};

}  // namespace rnbd::server
