#include "sim/mount.h"

#include <algorithm>

namespace rnbd::sim_test {

using namespace std::chrono_literals;  // NOLINT: times
using fabric::sim::World;

namespace {

constexpr Duration kAgain = 2ms;  // a refused open is tried after this
constexpr std::uint32_t kPassingOperations = 4;

}  // namespace

Mount::Mount(World& world, const Config& config, const Report& report, Disk& disk,
             ClientProcess& process, std::size_t client, MountOptions options)
    : world_(world),
      config_(config),
      report_(report),
      disk_(disk),
      process_(process),
      options_(std::move(options)),
      work_{.world = world,
            .report = report,
            .model = disk.model(),
            .who = "client" + std::to_string(client) + "/" + disk.config().name(),
            .client = static_cast<std::uint32_t>(client),
            .writes = options_.mode == client::AccessMode::rw,
            .disk_failed = disk.ever_failed(),
            .depth = config.depth} {
  step_.set_place(&process.loop(), world.next_id());
  work_.on_failed = [this] { later(0ns); };
  work_.orphans = std::move(options_.orphans);
  // A server like the kernel's does not say that it lost something.
  const bool only_writer = work_.writes && !disk.config().rival && config.own_server;
  work_.view = only_writer ? View::strict : View::lenient;
  later(world.some(100us));
}

Mount::~Mount() { RNBD_ASSERT(ended()); }

bool Mount::done() const {
  if (ended()) return true;
  if (options_.passing) return under_way() == 0;
  return options_.budget == 0 && work_.budget == 0 && work_.orphans.empty() && under_way() == 0;
}

bool Mount::shows_size() const {
  if (state_ != State::open || device_->state() == client::DeviceState::failed) return true;
  return device_->state() == client::DeviceState::open &&
         device_->limits().size == disk_.device().limits().size;
}

void Mount::check_size(std::uint64_t size) const {
  if (size > disk_.device().limits().size)
    report_.violation("%s: %llu bytes are shown of a volume of %llu", work_.who.c_str(),
                      static_cast<unsigned long long>(size),
                      static_cast<unsigned long long>(disk_.device().limits().size));
}

std::uint32_t Mount::under_way() const {
  std::uint32_t sum = 0;
  for (const auto& worker : workers_) sum += worker->under_way();
  return sum;
}

void Mount::remap() {
  // What was not flushed before is nobody's to miss: a volume mapped anew begins anew.
  work_.view = View::lenient;
  if (state_ == State::open) stop();
}

void Mount::end() {
  ending_ = true;
  later(0ns);
}

std::vector<Orphan> Mount::kill() {
  std::vector<Orphan> orphans = work_.orphans;
  for (const auto& worker : workers_) worker->collect_orphans(orphans);
  work_.orphans.clear();
  work_.dead = dead_ = true;
  end();
  return orphans;
}

void Mount::step() {
  if (dead_) abandon();
  switch (state_) {
    case State::idle:
      if (ending_) {
        state_ = State::ended;
        return;
      }
      return open();
    case State::opening:
      if (dead_) later(1ms);  // until the others are closed
      return;
    case State::closing:
    case State::ended:
      return;
    case State::open:
      if (ending_ || work_.device_failed) return stop();
      if (options_.passing && work_.budget == 0 && under_way() == 0) return stop();
      if (options_.passing) later(500us);
      return;
    case State::stopping:
      if (std::ranges::all_of(workers_, [](const auto& worker) { return worker->closed(); }))
        return close();
      for (const auto& worker : workers_) worker->wake();
      return later(50us);
  }
}

void Mount::open() {
  state_ = State::opening;
  work_.crashes_at_open = disk_.model().crashes();
  process_.client(options_.server)
      .open_device({.path = disk_.config().name(),
                    .mode = options_.mode,
                    .hold_timeout = options_.passing ? 20ms : config_.hold_timeout},
                   [this](auto result) { opened(std::move(result)); });
}

void Mount::opened(tl::expected<client::RemoteDevice*, client::Failure> result) {
  if (!result) {
    report_.note("%s: not opened: %s", work_.who.c_str(), result.error().error.message().c_str());
    state_ = State::idle;
    return later(options_.passing ? world_.some(20ms) : kAgain + world_.some(kAgain));
  }
  report_.note("%s: opened", work_.who.c_str());
  device_ = *result;
  check_size(device_->limits().size);
  device_->set_watcher(this);
  ++process_.devices_open;
  state_ = State::open;
  work_.stopping = false;
  work_.device_failed = false;
  if (!dead_ && work_.writes) disk_.model().loss_known();
  const std::uint32_t now =
      options_.passing ? std::min(options_.budget, kPassingOperations) : options_.budget;
  options_.budget -= now;
  work_.budget += now;
  for (std::size_t i = 0; i < process_.loops(); ++i)
    workers_.push_back(std::make_unique<Worker>(work_, *device_, process_.loop(i)));
  later(0ns);
}

// A ghost reaches nobody: its devices must let go of what they hold, and opens are in vain.
void Mount::abandon() {
  if (state_ == State::stopping && !std::exchange(device_abandoned_, true))
    process_.client(options_.server).fail_device(*device_);
  if (process_.devices_open == 0) process_.close();
}

// No new requests.
void Mount::stop() {
  state_ = State::stopping;
  work_.stopping = true;
  for (const auto& worker : workers_) worker->wake();
  later(0ns);
}

void Mount::close() {
  state_ = State::closing;
  workers_.clear();
  device_->set_watcher(nullptr);
  process_.client(options_.server).close_device(*device_, [this](std::error_code) {
    report_.note("%s: closed", work_.who.c_str());
    device_ = nullptr;
    --process_.devices_open;
    state_ = State::idle;
    later(options_.passing ? world_.some(5ms) : world_.some(1ms));
  });
}

}  // namespace rnbd::sim_test
