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
  const std::size_t path = random.below(schedule_.config_.paths);
  if (schedule_.kernel_ && random.below(3) == 0)
    return world_.link(*schedule_.kernel_host_, schedule_.servers_[0]->host(), path, path);
  auto& client = schedule_.clients_[random.below(schedule_.clients_.size())];
  auto& server = *schedule_.servers_[random.below(schedule_.servers_.size())];
  return world_.link(*client.host, server.host(), path, path);
}

void Faults::inject() {
  if (std::exchange(first_, false) && schedule_.kernel_ && kernel_client()) return;
  const std::uint64_t what = world_.random().below(24);
  if (what >= 20) return lose_client_end();
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

void Faults::slow_down(Link& link, const Host& towards) {
  link.set_latency_towards(towards, {.base = world_.some(1ms), .jitter = world_.some(6ms)});
  world_.after(world_.some(3ms), [&link] { link.set_latency({}); });
}

// A client's connections fail for itself alone, with requests on a slow way to a busy disk: the
// server hears nothing of it, and the requests arrive.
void Faults::lose_client_end() {
  Random& random = world_.random();
  auto& client = schedule_.clients_[random.below(schedule_.clients_.size())];
  auto& server = *schedule_.servers_[random.below(schedule_.servers_.size())];
  const std::size_t path = random.below(schedule_.config_.paths);
  Link& link = world_.link(*client.host, server.host(), path, path);
  schedule_.report_.note("fault: %s alone loses its end of path %zu", client.host->name().c_str(),
                         path);
  if (random.below(2) == 0) schedule_.stall_disks(world_.some(20ms));
  slow_down(link, server.host());
  Host& host = *client.host;
  world_.after(world_.some(2ms), [&link, &host] { link.break_ends_at(host); });
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
      // Nobody remembers a failed flush over a restart of the server once the volume is mapped anew
      // (docs/safety.md, what is left).
      if (std::ranges::any_of(server.disks(), [](const auto& d) { return d->flush_failed(); }))
        return;
      schedule_.report_.note("fault: %s's process killed", server.host().name().c_str());
      server.kill(random.below(2) == 0 ? Host::Death::noticed : Host::Death::closed);
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
  if (random.below(2) == 0) {  // and what it sent last arrives after its successor has begun
    if (random.below(2) == 0) schedule_.stall_disks(world_.some(20ms));
    for (auto& server : schedule_.servers_) {
      const std::size_t path = random.below(schedule_.config_.paths);
      slow_down(world_.link(*client.host, server->host(), path, path), server->host());
    }
    world_.run_for(world_.some(500us));
    if (!schedule_.client_running(client)) return;
  }
  schedule_.kill_client(number, random.below(3) == 0 ? Host::Death::silent : Host::Death::closed);
  world_.after(while_it_lasts(), [this, number] {
    if (!schedule_.client_running(schedule_.clients_[number])) schedule_.start_client(number);
  });
}

// Paths are disconnected, reconnected, removed and added; in the end all are as they were.
void Faults::paths_by_hand() {
  Random& random = world_.random();
  const std::size_t number = random.below(schedule_.clients_.size());
  const std::size_t server = random.below(schedule_.servers_.size());
  const std::uint64_t what = random.below(3);
  const std::size_t path = random.below(schedule_.config_.paths);
  if (!schedule_.client_running(schedule_.clients_[number])) return;
  ClientProcess* process = schedule_.clients_[number].processes.back().get();
  const Duration away = while_it_lasts();
  schedule_.report_.note("fault: a path of client%zu is %s", number,
                         what == 0   ? "disconnected"
                         : what == 1 ? "reconnected"
                                     : "removed");
  world_.after(
      0ns,
      [this, process, number, server, what, path, away] {
        rtrs::client::Session* session = process->client(server).session();
        if (process->dead() || session == nullptr) return;
        const auto ignore = [](std::error_code) {};
        if (what == 0) session->disconnect_path(path, ignore);
        if (what == 1) session->reconnect_path(path, ignore);
        if (what == 2) session->remove_path(path, ignore);
        // From here, as a client that is frozen does what it was told only afterwards.
        world_.after(away, [this, number, server] { tend_paths(number, server, 100); });
      },
      &process->loop());
}

// Puts every path back, and looks again until nothing is left to do.
void Faults::tend_paths(std::size_t number, std::size_t server, unsigned turns) {
  Schedule::Client& client = schedule_.clients_[number];
  if (turns == 0 || !schedule_.client_running(client)) return;
  ClientProcess* process = client.processes.back().get();
  world_.after(
      0ns,
      [this, process, number, server, turns] {
        rtrs::client::Session* session = process->client(server).session();
        if (process->dead() || session == nullptr) return;
        const auto ignore = [](std::error_code) {};
        const auto infos = session->paths();
        bool well = true;
        for (std::size_t i = 0; i < infos.size(); ++i) {
          using State = rtrs::client::PathState;
          if (infos[i].state == State::closed) session->reconnect_path(i, ignore);
          // One that was added and fails at once is gone again.
          well &= infos[i].state == State::connected || infos[i].state == State::reconnecting;
        }
        Host& host = *schedule_.clients_[number].host;
        for (std::size_t i = infos.size(); i < schedule_.config_.paths; ++i) {
          well = false;
          for (std::size_t path = 0; path < schedule_.config_.paths; ++path)
            session->add_path({host.address(path), schedule_.servers_[server]->address(path)},
                              ignore);  // those that are there are refused
        }
        if (!well)
          world_.after(100ms,
                       [this, number, server, turns] { tend_paths(number, server, turns - 1); });
      },
      &process->loop());
}

void Faults::administrator() {
  Random& random = world_.random();
  if (random.below(2) == 0) return paths_by_hand();
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

// A kernel client has several requests under way on a path when the path dies for it alone, and
// they go over another. What the server has not seen yet of the first copies arrives much later. It
// can know that they are stale if only one of them still runs when its second copy comes (R4).
void Faults::kernel_fails_over(std::size_t path) {
  KernelClient& client = *schedule_.kernel_;
  Link& link = world_.link(client.host(), client.server().host(), path, path);
  schedule_.report_.note("fault: the kernel client fails over from path %zu", path);
  link.black_hole_towards(client.server().host());
  world_.run_for(2ms);
  const bool provable = client.inflight(path) > link.undelivered_towards(client.server().host());
  client.host().let_frames_die(false);
  if (client.path_up(path)) client.lose_path(path);
  world_.run_for(22ms);
  if (!provable) link.drop_held();
  link.heal();
  client.host().let_frames_die(true);
  world_.run_for(1ms);
}

void Faults::kernel_misbehaves(std::size_t path) {
  KernelClient& client = *schedule_.kernel_;
  schedule_.report_.note("fault: the kernel client uses a busy chunk of path %zu", path);
  if (!client.misbehave(path)) return;
  world_.run_for(2ms);
  if (client.path_up(path))
    schedule_.report_.violation("R2: a path survived a request on a busy chunk");
}

// Only as the first fault, so that nothing else can be the reason for what happens.
bool Faults::kernel_client() {
  KernelClient& client = *schedule_.kernel_;
  const std::size_t path = world_.random().below(client.path_count());
  const auto ready = [&] {
    std::size_t up = 0;
    for (std::size_t i = 0; i < client.path_count(); ++i) up += client.path_up(i) ? 1U : 0U;
    return up > 1 && client.path_up(path) && client.inflight(path) > 1;
  };
  if (!world_.try_until(ready, 10ms)) return false;
  Disk& disk = *schedule_.disks_.back();
  disk.device().stall(20ms);
  world_.run_for(1ms);
  for (std::size_t i = 0; i < client.path_count(); ++i)
    client.guard(i, i != path && client.path_up(i));
  world_.chance(3) ? kernel_misbehaves(path) : kernel_fails_over(path);
  for (std::size_t i = 0; i < client.path_count(); ++i) client.guard(i, false);
  return true;
}

namespace {

void heal_link(Link& link) {
  link.heal();
  link.set_latency({});
  link.delay_connects({});
  link.refuse_connects(0);
  link.reset_after(link.host(0), 0);
  link.reset_after(link.host(1), 0);
}

}  // namespace

void Faults::heal() {
  for (std::size_t path = 0; path < schedule_.config_.paths; ++path) {
    for (auto& server : schedule_.servers_) {
      for (auto& client : schedule_.clients_)
        heal_link(world_.link(*client.host, server->host(), path, path));
      if (schedule_.kernel_)
        heal_link(world_.link(*schedule_.kernel_host_, server->host(), path, path));
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
