#include "sim/config.h"

#include <algorithm>

#include "base/random.h"

namespace rnbd::sim_test {
namespace {

using namespace std::chrono_literals;  // NOLINT: times

void draw_volumes(Config& config, Random& random) {
  const std::size_t count = 1 + random.below(random.below(2) == 0 ? 1 : 3);
  for (std::size_t i = 0; i < count; ++i) {
    VolumeConfig volume;
    volume.number = static_cast<std::uint32_t>(i);
    volume.server = random.below(config.servers);
    volume.blocks = static_cast<std::uint32_t>(8 + random.below(17));
    volume.writer = i == 0 ? 0 : random.below(config.clients);
    for (std::size_t client = 0; client < config.clients; ++client) {
      if (client == volume.writer || random.below(3) != 0) continue;
      if (!volume.rival && random.below(2) == 0) {
        volume.rival = true;
        volume.rival_client = client;
      } else {
        volume.readers.push_back(client);
      }
    }
    volume.volatile_cache = random.below(4) != 0;
    volume.latency = random.below(4) == 0 ? 200us : 10us;
    volume.jitter = random.below(4) == 0 ? 1ms : 100us;
    config.volumes.push_back(volume);
  }
  if (!config.kernel_client) return;
  config.volumes.push_back({.number = static_cast<std::uint32_t>(count),
                            .writer = config.clients,
                            .kernel = true,
                            .latency = 10us,
                            .jitter = 100us});
}

void draw_options(Config& config, Random& random) {
  config.server = {.queue_depth = static_cast<std::uint32_t>(8 + 8 * random.below(3)),
                   .max_chunk_size = random.below(4) == 0 ? 16384u : 8192u,
                   .header_size = 4096,
                   .heartbeat = {.interval = 40ms, .missed_max = 4},
                   .fast_heartbeat = {.interval = 10ms, .missed_max = 3},
                   .handshake_timeout = 200ms,
                   .max_sessions = 16,
                   .max_paths_per_session = 8,
                   .max_connections_per_path = 8,
                   .max_chunk_memory = 1 << 28};
  config.policy = static_cast<rtrs::PathPolicy>(random.below(3));
  config.session.heartbeat = config.server.heartbeat;
  config.session.fast_heartbeat = config.server.fast_heartbeat;
  config.session.server_patience = kServerNotices;
  config.session.backend_patience = 2 * kStallMax;
  config.session.packet_lifetime = kPacketLifetime;
  config.session.connect_timeout = 50ms;
  config.session.name_patience = 1s;
  config.session.reconnect_delay = 4ms;
  config.session.reconnect_delay_max = 64ms;
  config.session.policy = config.policy;
}

}  // namespace

SeededRandom growth_random(std::uint64_t seed) {
  return SeededRandom(seed ^ 0x6e0b'1657'0000'0000);
}

Config Config::draw(std::uint64_t seed) {
  SeededRandom random(seed ^ 0x5eed'c0f1'6000'0000);
  Config config;
  config.seed = seed;
  config.clients = 1 + random.below(random.below(2) == 0 ? 1 : 3);
  config.servers = 1 + random.below(6) / 5;
  config.paths = 1 + random.below(3);
  config.client_loops = 1 + random.below(2);
  config.server_loops = 1 + random.below(2);
  config.depth = static_cast<std::uint32_t>(1 + random.below(6));
  config.operations = static_cast<std::uint32_t>(20 + random.below(60));
  config.faults = static_cast<std::uint32_t>(random.below(6));
  config.own_server = random.below(4) != 0;
  config.kernel_client = config.paths > 1 && random.below(6) == 0;
  config.gates = random.below(2) == 0;
  if (random.below(4) == 0) config.hold_timeout = 20ms + Duration(1ms) * random.below(100);
  draw_options(config, random);
  draw_volumes(config, random);
  // Drawn apart, so that all else is as it would be without.
  SeededRandom growth = growth_random(seed);
  if (growth.below(4) == 0) config.growths = static_cast<std::uint32_t>(1 + growth.below(4));
  return config;
}

std::string Config::describe() const {
  std::string text =
      std::to_string(clients) + " clients, " + std::to_string(servers) + " servers, " +
      std::to_string(paths) + " paths, loops " + std::to_string(client_loops) + "/" +
      std::to_string(server_loops) + ", depth " + std::to_string(depth) + ", " +
      std::to_string(faults) + " faults" + (own_server ? "" : ", server like the kernel's") +
      (hold_timeout == Duration{} ? "" : ", gives up") + (growths == 0 ? "" : ", volumes grow") +
      (kernel_client ? ", a kernel-like client" : "") + (gates ? "" : ", no gates");
  for (const VolumeConfig& volume : volumes) {
    text += "; " + volume.name() + " of server" + std::to_string(volume.server) +
            ": writer client" + std::to_string(volume.writer) + ", " +
            std::to_string(volume.readers.size()) + " readers" +
            (volume.rival ? ", rival client" + std::to_string(volume.rival_client) : "") +
            (volume.volatile_cache ? "" : ", write-through");
  }
  return text;
}

}  // namespace rnbd::sim_test
