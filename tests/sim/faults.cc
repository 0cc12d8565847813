#include "sim/faults.h"

#include <algorithm>
#include <cerrno>

namespace rnbd::sim_test {

using namespace std::chrono_literals;  // NOLINT: times
using fabric::sim::Host;
using fabric::sim::Link;

// Short as a rule, now and then longer than any patience.
Duration Faults::while_it_lasts() {
  switch (world_.random().below(4)) {
    case 0:
      return world_.some(200us);
    case 1:
      return world_.some(5ms);
    case 2:
      return world_.some(60ms);
    default:
      return world_.some(500ms);
  }
}

Link& Faults::some_link() {
  Random& random = world_.random();
  auto& client = schedule_.clients_[random.below(schedule_.clients_.size())];
  auto& server = *schedule_.servers_[random.below(schedule_.servers_.size())];
  const std::size_t path = random.below(schedule_.config_.paths);
  return world_.link(*client.host, server.host(), path, path);
}

void Faults::inject() {
  const std::uint64_t what = world_.random().below(20);
  if (what < 10) return network();
  if (what < 12) return connects();
  if (what < 14) return disks();
  if (what < 16) return servers();
  if (what < 18) return clients();
  administrator();
}

void Faults::network() {
  Random& random = world_.random();
  Link& link = some_link();
  Host& host = link.host(random.below(2) == 0 ? 0 : 1);
  const Duration time = while_it_lasts();
  const auto heal_later = [&] { world_.after(time, [&link] { link.heal(); }); };
  const double ms = static_cast<double>(time.count()) / 1e6;
  switch (random.below(8)) {
    case 0:
      schedule_.report_.note("fault: link of %s reset", host.name().c_str());
      return link.reset();
    case 1:
      schedule_.report_.note("fault: one connection reset");
      return static_cast<void>(link.reset_one(random.below(4)));
    case 2: {
      const std::uint64_t count = 1 + random.below(30);
      schedule_.report_.note("fault: reset behind the %llu. message to %s",
                             static_cast<unsigned long long>(count), host.name().c_str());
      return link.reset_after(host, count);
    }
    case 3:
      schedule_.report_.note("fault: link cut for %.3f ms", ms);
      link.cut(world_.some(2ms));
      return heal_later();
    case 4:
      schedule_.report_.note("fault: black hole towards %s for %.3f ms", host.name().c_str(), ms);
      link.black_hole_towards(host);
      return heal_later();
    case 5:
      schedule_.report_.note("fault: black hole for %.3f ms", ms);
      link.black_hole();
      return heal_later();
    case 6:
      schedule_.report_.note("fault: completions stall for %.3f ms", ms);
      return link.stall_completions(time);
    default:
      schedule_.report_.note("fault: slow link towards %s for %.3f ms", host.name().c_str(), ms);
      link.set_latency_towards(host, {.base = 500us, .jitter = 2ms});
      return world_.after(time, [&link] { link.set_latency({}); });
  }
}

void Faults::connects() {
  Random& random = world_.random();
  Link& link = some_link();
  schedule_.report_.note("fault: connects refused, duplicated or delayed");
  if (random.below(2) == 0) link.refuse_connects(static_cast<std::uint32_t>(1 + random.below(3)));
  if (random.below(2) == 0)
    link.duplicate_connects(static_cast<std::uint32_t>(1 + random.below(2)));
  if (random.below(2) == 0) {
    link.delay_connects(world_.some(20ms));
    world_.after(world_.some(100ms), [&link] { link.delay_connects({}); });
  }
  link.reset();
}

void Faults::disks() {
  Random& random = world_.random();
  Disk& disk = *schedule_.disks_[random.below(schedule_.disks_.size())];
  switch (random.below(3)) {
    case 0: {
      const Duration time = world_.some(kStallMax);
      schedule_.report_.note("fault: disk %u stalls for %.3f ms", disk.config().number,
                             static_cast<double>(time.count()) / 1e6);
      return disk.device().stall(time);
    }
    case 1:
      schedule_.report_.note("fault: disk %u fails requests", disk.config().number);
      return disk.fail_next(static_cast<std::uint32_t>(1 + random.below(3)),
                            random.below(2) == 0 ? EIO : ENOSPC);
    default:
      schedule_.report_.note("fault: disk %u fails flushes", disk.config().number);
      return disk.fail_flushes(1);
  }
}

void Faults::servers() {
  Random& random = world_.random();
  ServerHost& server = *schedule_.servers_[random.below(schedule_.servers_.size())];
  if (!server.running()) return;
  const Duration away = while_it_lasts();
  const auto death = random.below(2) == 0 ? Host::Death::noticed : Host::Death::silent;
  switch (random.below(4)) {
    case 0: {
      const Duration time = while_it_lasts();
      schedule_.report_.note("fault: %s frozen for %.3f ms", server.host().name().c_str(),
                             static_cast<double>(time.count()) / 1e6);
      return server.host().freeze(time);
    }
    case 1:
      schedule_.report_.note("fault: %s loses power", server.host().name().c_str());
      server.lose_power(death);
      break;
    default:
      schedule_.report_.note("fault: %s's process killed", server.host().name().c_str());
      server.kill(Host::Death::noticed);
      break;
  }
  world_.after(away, [this, &server] {
    if (server.running()) return;
    schedule_.report_.note("%s starts", server.host().name().c_str());
    server.start();
  });
}

void Faults::clients() {
  Random& random = world_.random();
  const std::size_t number = random.below(schedule_.clients_.size());
  Schedule::Client& client = schedule_.clients_[number];
  if (!schedule_.client_running(client)) return;
  if (random.below(4) == 0) {
    const Duration time = while_it_lasts();
    schedule_.report_.note("fault: client%zu frozen for %.3f ms", number,
                           static_cast<double>(time.count()) / 1e6);
    return client.host->freeze(time);
  }
  schedule_.report_.note("fault: client%zu killed", number);
  schedule_.kill_client(number, random.below(2) == 0 ? Host::Death::noticed : Host::Death::silent);
  world_.after(while_it_lasts(), [this, number] {
    if (!schedule_.client_running(schedule_.clients_[number])) schedule_.start_client(number);
  });
}

void Faults::administrator() {
  Random& random = world_.random();
  Schedule::Client& client = schedule_.clients_[random.below(schedule_.clients_.size())];
  if (random.below(2) == 0) {
    if (client.mounts.empty()) return;
    Mount& mount = *client.mounts[random.below(client.mounts.size())];
    schedule_.report_.note("fault: a volume is unmapped and mapped");
    return mount.remap();
  }
  ServerHost& server = *schedule_.servers_[random.below(schedule_.servers_.size())];
  if (!server.running()) return;
  schedule_.report_.note("fault: a device is closed by force");
  server::Exports& exports = server.process().exports();
  // Ids are given from 0 in every session; which sessions there are is for the server to say.
  exports.force_close(1 + random.below(3), static_cast<std::uint32_t>(random.below(3)),
                      [](std::error_code) {});
}

void Faults::heal() {
  for (auto& client : schedule_.clients_) {
    for (auto& server : schedule_.servers_) {
      for (std::size_t path = 0; path < schedule_.config_.paths; ++path) {
        Link& link = world_.link(*client.host, server->host(), path, path);
        link.heal();
        link.set_latency({});
        link.delay_connects({});
        link.refuse_connects(0);
        link.reset_after(server->host(), 0);
        link.reset_after(*client.host, 0);
      }
    }
  }
  for (auto& server : schedule_.servers_) {
    if (!server->running()) server->start();
    for (const auto& disk : server->disks()) {
      disk->fail_next(0, 0);
      disk->fail_flushes(0);
    }
  }
  for (std::size_t i = 0; i < schedule_.clients_.size(); ++i) {
    if (!schedule_.client_running(schedule_.clients_[i])) schedule_.start_client(i);
  }
}

}  // namespace rnbd::sim_test
