#include "daemon/reactors.h"

#include <fmt/format.h>
#include <sched.h>

#include <future>

#include "fabric/iwarp/iwarp_fabric.h"

namespace rnbd::daemon {
namespace {

std::size_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

fabric::iwarp::Options fabric_options(const NetworkConfig& network) {
  fabric::iwarp::Options options;
  using fabric::iwarp::CrcPolicy;
  if (network.crc == "on") options.crc = CrcPolicy::on;
  if (network.crc == "off") options.crc = CrcPolicy::off;
  if (network.crc == "strict") options.crc = CrcPolicy::strict;
  return options;
}

}  // namespace

Outcome<std::unique_ptr<Reactors>> Reactors::start(const std::string& name, const LoopConfig& loops,
                                                   const NetworkConfig& network) {
  auto all = std::unique_ptr<Reactors>(new Reactors());
  std::size_t count = loops.reactors != 0 ? loops.reactors : usable_cpus();
  for (std::size_t i = 0; i < count; ++i) {
    ReactorOptions options;
    options.name = fmt::format("{}-{}", name, i);
    options.spin_max = loops.spin;
    if (!loops.cpus.empty()) options.cpu = static_cast<int>(loops.cpus[i % loops.cpus.size()]);
    auto reactor = Reactor::create(options);
    if (!reactor)
      return problem({ProblemCode::failed,
                      fmt::format("cannot set up an io_uring ring: {}", reactor.error().message()),
                      "Linux 5.15 or later with io_uring allowed is needed (see sysctl "
                      "kernel.io_uring_disabled, and seccomp profiles of containers)",
                      to_errno(reactor.error())});
    all->reactors_.push_back(std::move(*reactor));
    all->pointers_.push_back(all->reactors_.back().get());
    all->loops_.push_back(all->reactors_.back().get());
    all->owned_fabrics_.push_back(std::make_unique<fabric::iwarp::IwarpFabric>(
        *all->pointers_.back(), fabric_options(network)));
    all->fabrics_.push_back(all->owned_fabrics_.back().get());
  }
  for (Reactor* reactor : all->pointers_) reactor->start();
  return all;
}

Reactors::~Reactors() {
  for (auto& reactor : reactors_) reactor->stop();
  for (auto& reactor : reactors_) reactor->join();
  owned_fabrics_.clear();
}

void Reactors::on_home(const std::function<void()>& call) {
  std::promise<void> done;
  home().post([&] {
    call();
    done.set_value();
  });
  done.get_future().wait();
}

}  // namespace rnbd::daemon
