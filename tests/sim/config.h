#pragma once
// What one schedule is made of: drawn from its seed.

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "fabric/sim/device.h"
#include "rtrs/client/session.h"
#include "rtrs/server/server.h"

namespace rnbd::sim_test {

struct VolumeConfig {
  std::uint32_t number = 0;
  std::size_t server = 0;
  std::uint32_t blocks = 16;
  std::size_t writer = 0;              // client
  std::vector<std::size_t> readers{};  // clients
  bool rival = false;                  // a second client wants to write now and then
  std::size_t rival_client = 0;
  bool kernel = false;  // used by the kernel-like client, and by nobody else
  bool volatile_cache = true;
  Duration latency{};
  Duration jitter{};
  std::string name() const { return "vol" + std::to_string(number); }
};

struct Config {
  std::uint64_t seed = 1;
  std::size_t clients = 1;
  std::size_t servers = 1;
  std::size_t paths = 1;
  std::size_t client_loops = 1;
  std::size_t server_loops = 1;
  std::uint32_t depth = 4;       // requests under way of one mount on one loop
  std::uint32_t operations = 0;  // of one mount
  std::uint32_t faults = 0;
  std::uint32_t growths = 0;   // volumes that become bigger meanwhile
  bool own_server = true;      // announces itself; else it is what a kernel server is
  bool kernel_client = false;  // one more client, which is like the kernel's
  bool gates = true;           // the server's fabric can shut out writes to busy chunks
  Duration hold_timeout{};
  rtrs::PathPolicy policy = rtrs::PathPolicy::min_inflight;
  std::vector<VolumeConfig> volumes;
  rtrs::server::ServerOptions server;
  rtrs::client::SessionOptions session;

  static Config draw(std::uint64_t seed);
  std::string describe() const;
};

SeededRandom growth_random(std::uint64_t seed);

// All times of the protocol, shortened in proportion: nothing depends on how long they are, only on
// which is longer than which.
inline constexpr Duration kStallMax = std::chrono::milliseconds(100);       // of a disk
inline constexpr Duration kPacketLifetime = std::chrono::milliseconds(10);  // of its sender's end
inline constexpr Duration kServerNotices = std::chrono::milliseconds(250);  // a dead client
inline constexpr Duration kLivenessLimit = std::chrono::seconds(60);

}  // namespace rnbd::sim_test
