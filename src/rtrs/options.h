#pragma once
// Settings both sides of RTRS share, with the kernel's defaults.

#include <chrono>
#include <cstdint>

#include "base/loop.h"

namespace rnbd::rtrs {

inline constexpr std::uint16_t kDefaultPort = 1234;

struct HeartbeatOptions {
  Duration interval = std::chrono::seconds(5);
  unsigned missed_max = 5;  // silent ticks tolerated; the path dies at the next one
};

// Between two of our own ends the options say when the peer is dead: after a silence of at most
// interval * missed_max less half an interval, and at least missed_max - 1 intervals. So there is
// time to fail over within interval * missed_max.
inline constexpr HeartbeatOptions kFastHeartbeat{.interval = std::chrono::milliseconds(500),
                                                 .missed_max = 3};

// That as ticks: a silence ends the path between missed_max + 1 and missed_max + 2 ticks after the
// last sign of life, so two ticks per interval, and three missed ones spared, do it exactly.
constexpr HeartbeatOptions own_heartbeat(const HeartbeatOptions& options) {
  return {.interval = options.interval / 2,
          .missed_max = options.missed_max < 2 ? 0 : 2 * options.missed_max - 3};
}

// What a server grants a session at connect.
struct SessionLimits {
  std::uint32_t queue_depth = 0;   // chunks, and so requests in flight
  std::uint32_t max_io_size = 0;   // most data bytes of one request
  std::uint32_t max_hdr_size = 0;  // most bytes of user message and RTRS message together
};

// How a client spreads requests over the paths that are up.
enum class PathPolicy : std::uint8_t { round_robin, min_inflight, min_latency };

enum class Direction : std::uint8_t { read, write };  // read: data comes from the server

}  // namespace rnbd::rtrs
