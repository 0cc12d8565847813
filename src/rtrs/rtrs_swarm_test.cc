// Many seeded lives of one session over one path: random shapes, a random load on all lanes, random
// faults. Whatever happens: every request ends exactly once, nothing is written to a request's
// memory after it ended, what was written is read back, a write of unknown fate has happened or not
// but does not happen later, no permit is lost, everything is given back at the end, and the same
// seed gives the same history.
//
//   RNBD_SIM_SEED=<n> replays one seed, RNBD_SIM_SEEDS=<count> runs that many, RNBD_SIM_TRACE=1
//   shows the events.

#include <gtest/gtest.h>

#include <deque>

#include "rtrs/testing/pair.h"

namespace rnbd::rtrs::testing {
namespace {

constexpr std::size_t kRegion = 4096;  // bytes of the store that one worker owns

PairOptions random_options(std::uint64_t seed) {
  SeededRandom random(seed * 977 + 5);
  PairOptions options;
  options.world.seed = seed;
  options.world.latency.tail_chance = random.below(2) == 0 ? 16 : 256;
  options.world.timer_slack = std::chrono::microseconds(random.below(200));
  options.client_loops = 1 + random.below(3);
  options.server_loops = 1 + random.below(3);
  constexpr std::uint32_t kDepths[] = {2, 3, 8, 16, 33, 64};
  options.server.queue_depth = kDepths[random.below(std::size(kDepths))];
  options.client_loops =
      std::min<std::size_t>(options.client_loops, options.server.queue_depth - 1);
  options.server.max_chunk_size = random.below(2) == 0 ? 8192 : 16384;
  options.server.heartbeat = {.interval = 50ms, .missed_max = 3};
  options.server.handshake_timeout = 300ms;
  options.session.heartbeat = {.interval = 50ms, .missed_max = 3};
  options.session.connect_timeout = 300ms;
  options.session.reconnect_delay = 20ms;
  options.session.reconnect_delay_max = 200ms;
  options.client_fabric.remote_invalidate = random.below(2) == 0;
  options.server_fabric.gates = random.below(4) != 0;
  options.server_fabric.keyed_gates = random.below(4) == 0;
  return options;
}

// One request at a time on its own region, checked against what it knows must be there.
class Worker {
 public:
  Worker(Pair& pair, Random& random, std::size_t lane, std::size_t index)
      : pair_(pair), random_(random), lane_(lane), offset_(index * kRegion), known_(kRegion) {}

  void start() { again(Duration::zero()); }
  void stop() { stopping_ = true; }
  bool idle() const { return !running_; }
  std::uint64_t completed() const { return completed_; }
  const std::vector<std::byte>& known() const { return known_; }
  bool certain() const { return !maybe_; }
  void expect_untouched() const {
    for (const auto& io : finished_) EXPECT_FALSE(io->changed_after_completion());
  }

 private:
  void again(Duration delay) {
    running_ = !stopping_;
    if (stopping_) return;
    pair_.world().after(
        delay, [this] { next(); }, &static_cast<SimLoop&>(pair_.lane(lane_).loop()));
  }

  void next() {
    // Old requests are kept a while, to see that nothing writes to them.
    if (io_) finished_.push_back(std::move(io_));
    if (finished_.size() > 4) {
      EXPECT_FALSE(finished_.front()->changed_after_completion());
      finished_.pop_front();
    }
    const auto delay = static_cast<std::uint32_t>(random_.below(3) == 0 ? random_.below(3000) : 0);
    const bool write = !maybe_ && random_.below(2) == 0;
    const std::size_t length = write ? random_.below(kRegion + 1) : kRegion;
    error_ = random_.below(16) == 0 ? static_cast<int>(1 + random_.below(500)) : 0;
    io_ = std::make_unique<Io>(write ? Direction::write : Direction::read, offset_, length, error_,
                               delay);
    if (write) fill(io_->bytes(), random_.next());
    io_->then = [this] { on_done(); };
    pair_.lane(lane_).submit(*io_);
  }

  void on_done() {
    ++completed_;
    EXPECT_EQ(io_->completions, 1);
    EXPECT_TRUE(io_->guards_intact());
    pair_.world().note(static_cast<std::uint64_t>(io_->result.value()));
    const bool write = io_->direction == Direction::write;
    if (io_->result == Errc::path_lost && write && error_ == 0) {
      maybe_ = after_write();
    } else if (!io_->result) {
      EXPECT_EQ(error_, 0);
      if (write) known_ = after_write();
      if (!write) check_read();
    } else if (io_->result != Errc::path_lost && io_->result != from_errno(ENOTCONN)) {
      EXPECT_EQ(io_->result, from_errno(error_));
    }
    again(io_->result
              ? std::chrono::microseconds(random_.below(20000))
              : std::chrono::microseconds(random_.below(random_.below(4) == 0 ? 10000 : 500)));
  }

  std::vector<std::byte> after_write() const {
    auto bytes = known_;
    std::ranges::copy(io_->bytes(), bytes.begin());
    return bytes;
  }
  void check_read() {
    const bool as_known = std::ranges::equal(io_->bytes(), known_);
    const bool as_maybe = maybe_ && std::ranges::equal(io_->bytes(), *maybe_);
    EXPECT_TRUE(as_known || as_maybe);
    if (as_maybe) known_ = *maybe_;
    maybe_.reset();  // whatever was seen first stays: a late write would be a stale one
  }

  Pair& pair_;
  Random& random_;
  const std::size_t lane_;
  const std::uint64_t offset_;
  std::vector<std::byte> known_;
  std::optional<std::vector<std::byte>> maybe_;  // a write of unknown fate
  std::unique_ptr<Io> io_;
  std::deque<std::unique_ptr<Io>> finished_;
  int error_ = 0;
  bool running_ = false;
  bool stopping_ = false;
  std::uint64_t completed_ = 0;
};

void one_fault(Pair& pair, Random& random) {
  auto& link = pair.link();
  Host& either = random.below(2) == 0 ? pair.client_host() : pair.server_host();
  const auto some = std::chrono::milliseconds(1 + random.below(400));
  const auto heal_later = [&] { pair.world().after(some, [&link] { link.heal(); }); };
  switch (random.below(12)) {
    case 0:
      return link.reset();
    case 1:
      link.reset_one(random.below(4));
      return;
    case 2:
      link.cut(std::chrono::microseconds(random.below(5000)));
      return heal_later();
    case 3:
      link.black_hole();
      return heal_later();
    case 4:
      link.black_hole_towards(either);
      return heal_later();
    case 5:
      return link.reset_after(either, 1 + random.below(20));
    case 6:
      return link.stall_completions(std::chrono::microseconds(random.below(20000)));
    case 7:
      link.refuse_connects(static_cast<std::uint32_t>(1 + random.below(3)));
      return link.reset();
    case 8:
      link.duplicate_connects(static_cast<std::uint32_t>(1 + random.below(3)));
      return link.reset();
    case 9:
      link.delay_connects(some);
      pair.world().after(2 * some, [&link] { link.delay_connects({}); });
      return link.reset();
    case 10:
      return either.freeze(some);
    case 11:
      return pair.crash_server(random.below(2) == 0 ? Host::Death::noticed : Host::Death::silent,
                               some);
    default:
      return;
  }
}

struct History {
  std::uint64_t hash = 0;
  std::uint64_t events = 0;
  std::uint64_t completed = 0;
  int losses = 0;
};

void run_life(std::uint64_t seed, History& history) {
  SCOPED_TRACE("RNBD_SIM_SEED=" + std::to_string(seed));
  Pair pair(random_options(seed));
  SeededRandom random(seed);
  ASSERT_TRUE(pair.open());
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::size_t lane = 0; lane < pair.session().lane_count(); ++lane) {
    const std::size_t count = 1 + random.below(std::min(pair.lane(lane).permits(), 8U) + 4);
    for (std::size_t i = 0; i < count; ++i) {
      workers.push_back(std::make_unique<Worker>(pair, random, lane, workers.size()));
      workers.back()->start();
    }
  }
  const std::uint64_t faults = random.below(6);
  for (std::uint64_t i = 0; i < faults; ++i) {
    pair.world().run_for(std::chrono::microseconds(random.below(200'000)));
    one_fault(pair, random);
  }
  pair.world().run_for(20ms);
  // From here on everything is well again, and so must the session be.
  ASSERT_TRUE(pair.world().run_until([&] { return pair.server_running(); }, 10s));
  pair.world().run_for(450ms);
  pair.link().heal();
  for (Host* host : {&pair.client_host(), &pair.server_host()})
    pair.link().reset_after(*host, 0);  // none that is still to come
  pair.world().run_for(100ms);
  ASSERT_TRUE(pair.world().run_until([&] { return pair.connected(); }, 10s));
  pair.world().run_for(10ms);
  for (auto& worker : workers) worker->stop();
  ASSERT_TRUE(pair.world().run_until(
      [&] {
        return std::ranges::all_of(workers, [](const auto& worker) { return worker->idle(); });
      },
      10s));
  for (std::size_t i = 0; i < workers.size(); ++i) {
    workers[i]->expect_untouched();
    history.completed += workers[i]->completed();
    if (!workers[i]->certain()) continue;
    const auto stored = std::span(pair.store().bytes()).subspan(i * kRegion, kRegion);
    EXPECT_TRUE(std::ranges::equal(workers[i]->known(), stored)) << "worker " << i;
  }
  // Every permit of every lane is there.
  std::vector<std::unique_ptr<Io>> ios;
  for (std::size_t lane = 0; lane < pair.session().lane_count(); ++lane) {
    for (std::uint32_t i = 0; i < pair.lane(lane).permits(); ++i) {
      ios.push_back(std::make_unique<Io>(Direction::read, 0, 100, 0, 200'000));
      pair.submit(*ios.back(), lane);
    }
  }
  pair.world().run_for(50ms);
  EXPECT_EQ(pair.store().running(), ios.size());
  ASSERT_TRUE(pair.world().run_until(
      [&] {
        return std::ranges::all_of(
            ios, [](const auto& io) { return io->completions == 1 && !io->result; });
      },
      10s));
  history.losses += pair.disconnects_;
  ASSERT_TRUE(pair.close_and_wait());
  ASSERT_TRUE(pair.stop_server_and_wait());
  EXPECT_EQ(pair.link().connections(), 0U);
  EXPECT_TRUE(pair.store().live().empty());
  for (const auto& mistake : pair.store().mistakes()) ADD_FAILURE() << mistake;
  history.hash = pair.world().trace_hash();
  history.events = pair.world().events();
}

constexpr std::uint64_t kLivesPerBlock = 50;
class Swarm : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(Swarm, EveryLifeKeepsTheInvariants) {
  set_log_options({.program = "rnbd", .level = LogLevel::off});
  History total;
  for (const std::uint64_t seed :
       fabric::sim::seeds(kLivesPerBlock, GetParam() * kLivesPerBlock + 1)) {
    History history;
    run_life(seed, history);
    total.completed += history.completed;
    total.events += history.events;
    total.losses += history.losses;
    if (::testing::Test::HasFailure()) break;
  }
  set_log_options({});
  std::printf("%llu requests, %llu events, %d losses\n",
              static_cast<unsigned long long>(total.completed),
              static_cast<unsigned long long>(total.events), total.losses);
}
INSTANTIATE_TEST_SUITE_P(Blocks, Swarm, ::testing::Values(0, 1, 2, 3));

TEST(SwarmHistory, TheSameSeedGivesTheSameHistory) {
  set_log_options({.program = "rnbd", .level = LogLevel::off});
  for (const std::uint64_t seed : fabric::sim::seeds(5, 1000)) {
    History first, second;
    run_life(seed, first);
    run_life(seed, second);
    EXPECT_EQ(first.hash, second.hash) << seed;
    EXPECT_EQ(first.completed, second.completed) << seed;
  }
  set_log_options({});
}

}  // namespace
}  // namespace rnbd::rtrs::testing
