#include "sim/schedule.h"

#include <algorithm>

#include "sim/faults.h"

namespace rnbd::sim_test {

using namespace std::chrono_literals;  // NOLINT: times
using fabric::sim::Host;

Schedule::Schedule(const Config& config, Report& report, bool trace_events)
    : config_(config),
      report_(report),
      world_({.seed = config.seed,
              .trace = trace_events,
              .lifetime = kPacketLifetime,
              .on_violation = [&report](const char* what) { report.violation("%s", what); }}),
      clients_(config.clients) {
  report_.set_world(&world_);
  for (std::size_t i = 0; i < config.servers; ++i)
    servers_.push_back(std::make_unique<ServerHost>(world_, i, config_, report_));
  for (const VolumeConfig& volume : config.volumes) {
    models_.push_back(std::make_unique<VolumeModel>(volume.number, volume.blocks, report));
    disks_.push_back(&servers_[volume.server]->add_disk(volume, *models_.back()));
  }
  for (std::size_t i = 0; i < config.clients; ++i)
    clients_[i].host = &world_.add_host("client" + std::to_string(i), config.paths);
  if (!config.kernel_client) return;
  kernel_host_ = &world_.add_host("client" + std::to_string(config.clients), config.paths);
  kernel_host_->let_frames_die(true);
}

Schedule::~Schedule() { report_.set_world(nullptr); }

void Schedule::plan_mounts() {
  for (std::size_t volume = 0; volume < config_.volumes.size(); ++volume) {
    const VolumeConfig& config = config_.volumes[volume];
    if (config.kernel) continue;
    MountOptions options{.volume = volume, .server = config.server, .budget = config_.operations};
    clients_[config.writer].to_mount.push_back(options);
    if (config.rival) {
      options.passing = true;
      clients_[config.rival_client].to_mount.push_back(options);
      options.passing = false;
    }
    options.mode = client::AccessMode::ro;
    options.budget /= 2;
    for (const std::size_t reader : config.readers) clients_[reader].to_mount.push_back(options);
  }
}

// Behind everybody's back. Nothing is written there: it is the sizes that are looked at.
void Schedule::plan_growth() {
  SeededRandom random = growth_random(config_.seed ^ 1);
  for (std::uint32_t i = 0; i < config_.growths; ++i) {
    Disk& grows = *disks_[random.below(disks_.size())];
    const std::uint64_t more = (1 + random.below(64)) * kBlock;
    const auto when = std::chrono::microseconds(random.below(30'000));
    world_.after(when, [this, &grows, more] {
      const std::uint64_t size = grows.device().limits().size + more;
      report_.note("volume %u grows to %llu bytes", grows.config().number,
                   static_cast<unsigned long long>(size));
      grows.device().resize(size);
    });
  }
}

bool Schedule::sizes_are_shown() {
  return std::ranges::all_of(clients_, [](const Client& client) {
    return std::ranges::all_of(client.mounts,
                               [](const auto& mount) { return mount->shows_size(); });
  });
}

void Schedule::stall_disks(Duration time) {
  for (Disk* disk : disks_) disk->device().stall(time);
}

bool Schedule::client_running(const Client& client) const {
  return client.host->up() && !client.processes.empty() && !client.processes.back()->dead();
}

void Schedule::start_client(std::size_t number) {
  Client& client = clients_[number];
  if (!client.host->up()) client.host->restart();
  client.processes.push_back(std::make_unique<ClientProcess>(world_, *client.host, config_,
                                                             servers_, client.record, number));
  report_.note("client%zu starts", number);
  for (MountOptions& options : std::exchange(client.to_mount, {})) {
    Disk& on = disk(options.volume);
    client.mounts.push_back(std::make_unique<Mount>(
        world_, config_, report_, on, *client.processes.back(), number, std::move(options)));
  }
}

void Schedule::kill_client(std::size_t number, Host::Death death) {
  Client& client = clients_[number];
  client.host->crash(death);
  client.processes.back()->kill();
  for (const auto& mount : client.mounts) {
    if (mount->ended() || mount->killed()) continue;
    MountOptions options = mount->options();
    options.budget += mount->budget_left();
    options.orphans = mount->kill();
    client.to_mount.push_back(std::move(options));
  }
}

// Takes down what is left of processes that died.
void Schedule::reap(Client& client) {
  std::erase_if(client.mounts, [&](const auto& mount) {
    if (!mount->ended()) return false;
    client.completed += mount->completed();
    return true;
  });
}

void Schedule::reap_all() {
  for (Client& client : clients_) reap(client);
}

bool Schedule::all_done() {
  if (kernel_ && !kernel_->done()) return false;
  return std::ranges::all_of(clients_, [](const Client& client) {
    return std::ranges::all_of(client.mounts, [](const auto& mount) { return mount->done(); });
  });
}

bool Schedule::all_ended() {
  if (kernel_ && !kernel_->ended()) return false;
  return std::ranges::all_of(clients_, [](const Client& client) {
    return std::ranges::all_of(client.mounts, [](const auto& mount) { return mount->ended(); });
  });
}

void Schedule::wait(const char* what, const std::function<bool()>& done) {
  if (!world_.try_until(done, kLivenessLimit)) report_.violation("%s", what);
}

Outcome Schedule::run() {
  report_.note("seed %llu: %s", static_cast<unsigned long long>(config_.seed),
               config_.describe().c_str());
  plan_mounts();
  plan_growth();
  for (auto& server : servers_) server->start();
  for (std::size_t i = 0; i < clients_.size(); ++i) start_client(i);
  if (kernel_host_ != nullptr)
    kernel_ = std::make_unique<KernelClient>(world_, *kernel_host_, config_, report_, *servers_[0],
                                             *disks_.back(), clients_.size());
  Faults faults(*this);
  for (std::uint32_t i = 0; i < config_.faults; ++i) {
    world_.run_for(world_.some(world_.chance(4) ? 20ms : 1ms));
    faults.inject();
  }
  world_.run_for(world_.some(world_.chance(4) ? 200ms : 2ms));
  report_.note("all faults are over");
  faults.heal();
  wait("I7: not every request ended when the faults had ended", [this] { return all_done(); });
  if (config_.own_server && config_.growths > 0)
    wait("I7: a device does not show how its volume has grown",
         [this] { return sizes_are_shown(); });
  finish();
  Outcome outcome{world_.trace_hash(), world_.events(), 0};
  for (const Client& client : clients_) outcome.operations += client.completed;
  if (kernel_) outcome.operations += kernel_->completed();
  return outcome;
}

void Schedule::finish() {
  report_.note("the end");
  for (std::size_t i = 0; i < disks_.size(); ++i) {
    disks_[i]->model().check_contents(disks_[i]->device().contents(), View::lenient, "in the end");
  }
  for (Client& client : clients_) {
    for (const auto& mount : client.mounts) mount->end();
  }
  if (kernel_) kernel_->end();
  wait("I8: a device was not closed", [this] { return all_ended(); });
  reap_all();
  for (Client& client : clients_) {
    for (const auto& process : client.processes) process->close();
  }
  wait("I8: a client was not closed", [this] {
    return std::ranges::all_of(clients_, [](const Client& client) {
      return std::ranges::all_of(client.processes,
                                 [](const auto& process) { return process->closed(); });
    });
  });
  wait("I8: a server kept a volume open", [this] {
    return std::ranges::all_of(disks_, [](const Disk* disk) { return disk->open_handles() == 0; });
  });
  for (auto& server : servers_) server->stop();
  wait("I8: a server did not stop", [this] {
    return std::ranges::all_of(servers_, [](const auto& server) { return server->all_stopped(); });
  });
  check_end();
}

void Schedule::check_end() {
  for (Disk* disk : disks_) {
    if (disk->device().outstanding() != 0) report_.violation("I8: a disk is still busy");
    if (!disk->config().volatile_cache) continue;
    disk->device().power_cut();
    disk->model().check_stable(disk->device().contents());
  }
}

Outcome run_schedule(std::uint64_t seed, Report& report, bool trace_events) {
  Schedule schedule(Config::draw(seed), report, trace_events);
  return schedule.run();
}

}  // namespace rnbd::sim_test
