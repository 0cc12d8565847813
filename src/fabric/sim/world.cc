#include "fabric/sim/world.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "fabric/sim/fabric.h"

namespace rnbd::fabric::sim {
namespace {

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 0);
}

// The worlds alive, newest first. One thread runs worlds; a signal handler of that thread reads
// this.
World* alive = nullptr;

extern "C" void say_seeds_and_abort(int signal) {
  for (const World* world = alive; world != nullptr; world = world->next_alive()) {
    char line[64];
    const int length = std::snprintf(line, sizeof line, "sim: RNBD_SIM_SEED=%llu\n",
                                     static_cast<unsigned long long>(world->seed()));
    if (length > 0)
      static_cast<void>(!::write(STDERR_FILENO, line, static_cast<std::size_t>(length)));
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

}  // namespace

std::uint64_t seed_from_environment(std::uint64_t otherwise) {
  return number_from_environment("RNBD_SIM_SEED", otherwise);
}

std::vector<std::uint64_t> seeds(std::size_t count, std::uint64_t first) {
  const char* only = std::getenv("RNBD_SIM_SEED");
  if (only != nullptr && *only != '\0') return {seed_from_environment(first)};
  std::vector<std::uint64_t> result(number_from_environment("RNBD_SIM_SEEDS", count));
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = first + i;
  return result;
}

struct World::Call {
  Call(World& owner, std::function<void()> what) : world(owner), function(std::move(what)) {}
  void run() {
    auto& calls = world.calls_;
    const auto self =
        std::find_if(calls.begin(), calls.end(), [&](const auto& c) { return c.get() == this; });
    const std::unique_ptr<Call> last = std::move(*self);  // kept until the call has returned
    calls.erase(self);
    function();
  }
  World& world;
  std::function<void()> function;
  Event event = Event::of<&Call::run>(EventKind::call, this);
};

World::World(const Options& options)
    : options_(options), random_(options.seed), hash_(mix(options.seed)) {
  if (number_from_environment("RNBD_SIM_TRACE", 0) != 0) options_.trace = true;
  next_alive_ = std::exchange(alive, this);
  std::signal(SIGABRT, say_seeds_and_abort);
}

World::~World() {
  World** link = &alive;
  while (*link != this) link = &(*link)->next_alive_;
  *link = next_alive_;
  calls_.clear();
  hosts_.clear();  // and their fabrics, before the loops they are on
}

Duration World::some(Duration most) {
  if (most <= Duration::zero()) return {};
  return Duration(
      static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(most.count()) + 1)));
}

std::string World::replay() const { return "RNBD_SIM_SEED=" + std::to_string(seed()); }

bool World::chance(std::uint64_t in) { return in != 0 && random_.below(in) == 0; }

Host& World::add_host(std::string name, std::size_t addresses) {
  RNBD_ASSERT(hosts_.size() < 200);
  auto host =
      std::make_unique<Host>(*this, std::move(name), static_cast<std::uint32_t>(hosts_.size()));
  for (std::size_t nth = 0; nth < addresses; ++nth) {
    const std::string text =
        "ip:10." + std::to_string(nth) + ".0." + std::to_string(hosts_.size() + 1);
    const auto address = Address::parse(text, 0);
    RNBD_ASSERT(address.has_value());
    host->addresses_.push_back(*address);
  }
  hosts_.push_back(std::move(host));
  return *hosts_.back();
}

SimLoop& World::make_loop(Host* host) {
  loops_.push_back(
      std::make_unique<SimLoop>(*this, host, static_cast<std::uint32_t>(loops_.size() + 1)));
  return *loops_.back();
}

Link& World::link(Host& a, Host& b, std::size_t on_a, std::size_t on_b) {
  for (const auto& link : links_) {
    if (link->joins(0, a, on_a) && link->joins(1, b, on_b)) return *link;
    if (link->joins(0, b, on_b) && link->joins(1, a, on_a)) return *link;
  }
  links_.push_back(std::make_unique<Link>(*this, a, on_a, b, on_b, options_.latency));
  return *links_.back();
}

Host* World::find_host(const Address& address, std::size_t* index) {
  for (const auto& host : hosts_) {
    for (std::size_t nth = 0; nth < host->addresses_.size(); ++nth) {
      if (!host->addresses_[nth].same_host(address)) continue;
      if (index != nullptr) *index = nth;
      return host.get();
    }
  }
  return nullptr;
}

void World::at(Duration time, std::function<void()> call, SimLoop* loop) {
  calls_.push_back(std::make_unique<Call>(*this, std::move(call)));
  calls_.back()->event.set_place(loop, next_id());
  schedule(calls_.back()->event, TimePoint{} + time);
}

void World::after(Duration delay, std::function<void()> call, SimLoop* loop) {
  at(elapsed() + delay, std::move(call), loop);
}

void World::record(const Event& event) {
  ++events_;
  const auto time = static_cast<std::uint64_t>(elapsed().count());
  const std::uint64_t loop = event.loop() == nullptr ? 0 : event.loop()->id();
  hash_ = mix(hash_ ^ time ^ (static_cast<std::uint64_t>(event.kind()) << 56) ^ (loop << 48) ^
              (event.id() << 24));
  if (!options_.trace) return;
  std::fprintf(stderr, "sim %12.3f us  loop %llu  %-9s %llu\n", static_cast<double>(time) / 1000.0,
               static_cast<unsigned long long>(loop), event_kind_name(event.kind()),
               static_cast<unsigned long long>(event.id()));
}

bool World::step(TimePoint limit) {
  RNBD_ASSERT(current_ == nullptr);  // nobody may run the world from inside of it
  if (queue_.empty() || queue_.next_time() > limit) return false;
  now_ = queue_.next_time();
  Event& event = queue_.pop();
  SimLoop* loop = event.loop();
  if (loop != nullptr && loop->host() != nullptr && loop->host()->frozen()) {
    queue_.schedule(event, loop->host()->frozen_until());
    return true;
  }
  record(event);
  current_ = loop;
  event.fire();
  if (loop != nullptr) loop->run_deferred();
  current_ = nullptr;
  return true;
}

bool World::try_until(const std::function<bool()>& done, Duration limit) {
  const TimePoint end = now_ + limit;
  while (!done()) {
    if (step(end)) continue;
    now_ = end;
    return done();
  }
  return true;
}

bool World::run_until(const std::function<bool()>& done, Duration limit) {
  if (try_until(done, limit)) return true;
  std::fprintf(stderr, "sim: RNBD_SIM_SEED=%llu: not done at %.6f s\n",
               static_cast<unsigned long long>(seed()),
               std::chrono::duration<double>(elapsed()).count());
  return false;
}

void World::run_for(Duration time) {
  const TimePoint end = now_ + time;
  while (step(end)) {
  }
  now_ = end;
}

bool World::run_until_idle(Duration limit) {
  const TimePoint end = now_ + limit;
  while (step(end)) {
  }
  return queue_.empty();
}

}  // namespace rnbd::fabric::sim
