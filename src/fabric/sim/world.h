#pragma once
// A whole network in one thread on virtual time: hosts, links, loops, fabrics and everything that
// can go wrong between them. All chance comes from one seed: the same seed and program give the
// same history, and so the same trace_hash().
//
//   World world({.seed = seed_from_environment()});
//   Host& server = world.add_host("server");
//   Host& client = world.add_host("client");
//   Fabric& fabric = server.add_fabric();          // a loop of its own and a fabric on it
//   world.at(3ms, [&] { world.link(client, server).cut(); });
//   ASSERT_TRUE(world.run_until([&] { return done; }, 30s));
//
// Destroy the world last: hosts, links, loops and fabrics are its own, and must be unused by then.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "base/random.h"
#include "fabric/sim/event_queue.h"
#include "fabric/sim/host.h"
#include "fabric/sim/link.h"
#include "fabric/sim/loop.h"

namespace rnbd::fabric::sim {

struct Options {
  std::uint64_t seed = 1;
  bool trace = false;  // each event as a line on stderr; also by RNBD_SIM_TRACE=1
  Latency latency{};   // of new links
  Duration post_delay = std::chrono::microseconds(20);   // most from Loop::post to the call
  Duration timer_slack{};                                // most that a timer is late
  Duration close_delay = std::chrono::microseconds(50);  // most from close() to on_closed
  Duration receive_grace = std::chrono::seconds(1);      // how long a message waits for a receive
  Duration graceful_limit = std::chrono::seconds(1);     // most that a graceful close takes
  std::uint64_t bytes_in_flight_max = std::uint64_t{4} << 20;  // of one direction of a connection
  // Aborts when posted bytes change before they were sent. Samples long buffers.
  bool check_posted_bytes = true;
  // How long what a black hole holds back outlives the end that sent it; by default as long as it
  // takes.
  Duration lifetime = Duration::max();
  // Told when a contract is broken that this world can see; without it that is an abort.
  std::function<void(const char* what)> on_violation{};
};

// RNBD_SIM_SEED if set, else `otherwise`.
std::uint64_t seed_from_environment(std::uint64_t otherwise = 1);
// For tests over many seeds: `count` of them from `first`, or only RNBD_SIM_SEED if that is set.
// RNBD_SIM_SEEDS overrides the count.
std::vector<std::uint64_t> seeds(std::size_t count, std::uint64_t first = 1);

class World {
 public:
  explicit World(const Options& options = {});
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const Options& options() const { return options_; }
  std::uint64_t seed() const { return options_.seed; }
  // "RNBD_SIM_SEED=<seed>": what to say when a test fails, e.g. SCOPED_TRACE(world.replay()). An
  // abort says it by itself for every world alive.
  std::string replay() const;
  Random& random() { return random_; }
  Duration some(Duration most);   // 0 to `most`
  bool chance(std::uint64_t in);  // one in `in`; never for 0
  TimePoint now() const { return now_; }
  Duration elapsed() const { return now_ - TimePoint{}; }

  Host& add_host(std::string name, std::size_t addresses = 1);
  SimLoop& make_loop(Host* host = nullptr);
  // The link between address `on_a` of `a` and `on_b` of `b`; made when first asked for. In either
  // order.
  Link& link(Host& a, Host& b, std::size_t on_a = 0, std::size_t on_b = 0);
  Host* find_host(const Address& address, std::size_t* index = nullptr);

  // Calls `call` when `elapsed()` is `time`, outside of all loops or on `loop`.
  void at(Duration time, std::function<void()> call, SimLoop* loop = nullptr);
  void after(Duration delay, std::function<void()> call, SimLoop* loop = nullptr);

  // False when `limit` passed, or nothing is left to happen, before done(). Says the seed then.
  [[nodiscard]] bool run_until(const std::function<bool()>& done, Duration limit);
  bool try_until(const std::function<bool()>& done, Duration limit);  // the same, and says nothing
  void run_for(Duration time);
  // False when after `limit` there are still events.
  bool run_until_idle(Duration limit);

  std::uint64_t trace_hash() const { return hash_; }
  std::uint64_t events() const { return events_; }
  // Adds what a test observed to the history.
  void note(std::uint64_t value) { hash_ = mix(hash_ ^ value); }

  // For what is simulated.
  void violated(const char* what) {
    RNBD_ASSERT(options_.on_violation);
    options_.on_violation(what);
  }
  const World* next_alive() const { return next_alive_; }
  void schedule(Event& event, TimePoint time) { queue_.schedule(event, time < now_ ? now_ : time); }
  SimLoop* current() const { return current_; }
  std::uint64_t next_id() { return ++last_id_; }

 private:
  struct Call;
  static std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9;
    return x ^ (x >> 32);
  }
  bool step(TimePoint limit);  // false: nothing to happen until then
  void record(const Event& event);

  Options options_;
  World* next_alive_ = nullptr;  // for the report on abort
  SeededRandom random_;
  TimePoint now_{};
  EventQueue queue_;
  SimLoop* current_ = nullptr;
  std::uint64_t hash_;
  std::uint64_t events_ = 0;
  std::uint64_t last_id_ = 0;
  std::vector<std::unique_ptr<Call>> calls_;
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<std::unique_ptr<SimLoop>> loops_;
  std::vector<std::unique_ptr<Host>> hosts_;
};

}  // namespace rnbd::fabric::sim
