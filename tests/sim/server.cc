#include "sim/server.h"

#include <algorithm>

namespace rnbd::sim_test {

using fabric::sim::Host;
using fabric::sim::SimFabric;

namespace {

std::vector<Loop*> loops_of(const std::vector<SimFabric*>& fabrics) {
  std::vector<Loop*> loops;
  for (SimFabric* fabric : fabrics) loops.push_back(&fabric->loop());
  return loops;
}

}  // namespace

ServerProcess::ServerProcess(fabric::sim::World& world, Host& host, const Config& config,
                             const wire::Extension& identity, const std::vector<Disk*>& disks,
                             const Report& report)
    : world_(world),
      random_(world.random().next()),
      process_(std::make_shared<Process>()),
      opener_(world, disks, process_) {
  for (std::size_t i = 0; i < config.server_loops; ++i)
    fabrics_.push_back(&host.add_fabric(nullptr, {.gates = config.gates}));
  const auto loops = loops_of(fabrics_);
  server::ExportsOptions exports_options;
  rtrs::server::ServerOptions options = config.server;
  if (config.own_server) options.identity = exports_options.identity = identity;
  exports_options.refuse_survivors = config.own_server && !config.kernel_client;
  if (config.growths > 0) exports_options.look_interval = std::chrono::milliseconds(5);
  exports_ = server::Exports::create(loops, opener_, options.max_chunk_size - options.header_size,
                                     exports_options);
  const std::vector<fabric::Fabric*> all(fabrics_.begin(), fabrics_.end());
  watch_ = std::make_unique<RequestWatch>(*exports_, report);
  server_ = rtrs::server::Server::create(all, random_, *watch_, options).value();
  for (std::size_t path = 0; path < host.address_count(); ++path)
    RNBD_ASSERT(!server_->listen(host.address_with_port(kPort, path)));
}

void ServerProcess::stop() {
  if (std::exchange(stopping_, true)) return;
  const auto stop_now = [this] {
    server_->stop([this] {
      server_.reset();
      exports_.reset();
      stopped_ = true;
    });
  };
  world_.after({}, stop_now, &fabrics_.front()->sim_loop());
}

void ServerProcess::kill() {
  process_->dead = true;
  stop();
}

ServerHost::ServerHost(fabric::sim::World& world, std::size_t number, const Config& config,
                       const Report& report)
    : world_(world),
      number_(number),
      config_(config),
      report_(report),
      host_(world.add_host("server" + std::to_string(number), config.paths)),
      boot_(world.random().uuid()) {}

Disk& ServerHost::add_disk(const VolumeConfig& volume, VolumeModel& model) {
  disks_.push_back(std::make_unique<Disk>(world_, volume, model, report_));
  return *disks_.back();
}

void ServerHost::start() {
  if (!host_.up()) host_.restart();
  std::vector<Disk*> disks;
  for (const auto& disk : disks_) {
    disk->device().power_on();
    disks.push_back(disk.get());
  }
  const wire::Extension identity{
      .features = wire::kFeatureFence, .instance = world_.random().uuid(), .boot = boot_};
  processes_.push_back(
      std::make_unique<ServerProcess>(world_, host_, config_, identity, disks, report_));
}

void ServerHost::stop() { process().stop(); }

void ServerHost::kill(Host::Death death) {
  host_.crash(death);
  process().kill();
}

void ServerHost::lose_power(Host::Death death) {
  kill(death);
  boot_ = world_.random().uuid();
  for (const auto& disk : disks_) disk->power_cut();
}

bool ServerHost::all_stopped() const {
  return std::ranges::all_of(processes_, [](const auto& process) { return process->stopped(); });
}

}  // namespace rnbd::sim_test
