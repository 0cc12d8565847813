#include "daemon/reactors.h"

#include <fmt/format.h>
#include <sched.h>

#include <cerrno>
#include <charconv>
#include <future>

#include "base/log.h"
#include "fabric/choice/choice_fabric.h"
#include "fabric/iwarp/iwarp_fabric.h"
#ifdef RNBD_HAVE_VERBS
#include "fabric/verbs/memlock.h"
#include "fabric/verbs/verbs_fabric.h"
#endif

namespace rnbd::daemon {
namespace {

std::size_t usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

fabric::iwarp::Options iwarp_options(const NetworkConfig& network) {
  fabric::iwarp::Options options;
  using fabric::iwarp::CrcPolicy;
  if (network.crc == "on") options.crc = CrcPolicy::on;
  if (network.crc == "off") options.crc = CrcPolicy::off;
  if (network.crc == "strict") options.crc = CrcPolicy::strict;
  return options;
}

#ifdef RNBD_HAVE_VERBS
Outcome<fabric::verbs::Options> verbs_options(const NetworkConfig& network) {
  fabric::verbs::Options options;
  const std::string& device = network.rdma_device;
  const std::size_t slash = device.find('/');
  options.device = device.substr(0, slash);
  if (slash != std::string::npos) {
    const char* end = device.data() + device.size();
    auto [at, error] = std::from_chars(device.data() + slash + 1, end, options.port);
    if (error != std::errc() || at != end || options.port == 0)
      return problem({ProblemCode::config, fmt::format("rdma_device '{}' is none", device),
                      "mlx5_0, or mlx5_0/1 for its first port", EINVAL});
  }
  options.windows = network.memory_windows != "off";
  options.windows_of_software = network.memory_windows == "test";
  return options;
}

// Turns RDMA off where it would fail at the first connect anyway, or says why we cannot start.
Outcome<void> check_rdma(NetworkConfig& network, std::size_t pinned) {
  if (network.rdma == "off") return {};
  if (auto options = verbs_options(network); !options) return tl::unexpected(options.error());
  const bool must = network.rdma == "on";
  if (fabric::verbs::list_devices().empty()) {
    if (must)
      return problem({ProblemCode::config, "this machine has no RDMA device, and rdma is \"on\"",
                      "'rdma link show' lists the devices; set rdma = \"auto\"", ENODEV});
    return {};  // one may come
  }
  const std::string complaint = fabric::verbs::memlock_complaint(pinned);
  if (complaint.empty()) return {};
  if (must) return problem({ProblemCode::config, complaint, "", ENOMEM});
  log_warning("going without RDMA: {}", complaint);
  network.rdma = "off";
  return {};
}
#else
Outcome<void> check_rdma(NetworkConfig& network, std::size_t) {
  if (network.rdma != "on") return {};
  return problem({ProblemCode::config, "this build has no RDMA, and rdma is \"on\"",
                  "set rdma = \"auto\", or build it with libibverbs-dev and librdmacm-dev",
                  ENOTSUP});
}
#endif

}  // namespace

void Reactors::add_fabrics(Reactor& reactor, const NetworkConfig& network) {
  std::vector<fabric::Fabric*> by_preference;
  auto add = [&](std::unique_ptr<fabric::Fabric> fabric) {
    by_preference.push_back(fabric.get());
    owned_fabrics_.push_back(std::move(fabric));
  };
#ifdef RNBD_HAVE_VERBS
  rdma_ = network.rdma != "off" ? Rdma::possible : Rdma::off;
  if (rdma_ == Rdma::possible)
    add(std::make_unique<fabric::verbs::VerbsFabric>(reactor, *verbs_options(network)));
#endif
  add(std::make_unique<fabric::iwarp::IwarpFabric>(reactor, iwarp_options(network)));
  auto choice = std::make_unique<fabric::ChoiceFabric>(std::move(by_preference));
  fabrics_.push_back(choice.get());
  owned_fabrics_.push_back(std::move(choice));
}

Outcome<std::unique_ptr<Reactors>> Reactors::start(const std::string& name, const LoopConfig& loops,
                                                   const NetworkConfig& asked, Pinned pinned) {
  auto all = std::unique_ptr<Reactors>(new Reactors());
  const std::size_t count = loops.reactors != 0 ? loops.reactors : usable_cpus();
  NetworkConfig network = asked;
  if (auto checked = check_rdma(network, pinned.per_path + (count + 1) * pinned.per_connection);
      !checked)
    return tl::unexpected(checked.error());
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
    all->add_fabrics(*all->pointers_.back(), network);
  }
  for (Reactor* reactor : all->pointers_) reactor->start();
  all->on_home([&all] { all->event_alarm_ = std::make_unique<EventAlarm>(all->home()); });
  return all;
}

Reactors::~Reactors() {
  if (event_alarm_) on_home([this] { event_alarm_.reset(); });
  for (auto& reactor : reactors_) reactor->stop();
  for (auto& reactor : reactors_) reactor->join();
  while (!owned_fabrics_.empty())
    owned_fabrics_.pop_back();  // the choice before what it chose from
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
