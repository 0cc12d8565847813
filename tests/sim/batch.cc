#include "sim/batch.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "sim/schedule.h"

namespace rnbd::sim_test {
namespace {

constexpr unsigned kSecondsMost = 60;  // of one schedule, before it counts as endless
constexpr int kViolated = 3;           // exit status

// What a child tells its parent, in memory they share.
struct Shared {
  std::atomic<std::uint64_t> index;  // of the schedule it is at
  std::atomic<std::uint64_t> schedules;
  std::atomic<std::uint64_t> operations;
  std::atomic<std::uint64_t> events;
  std::atomic<std::uint64_t> hash;
  char what[512];
};

std::uint64_t seed_at(const BatchOptions& options, std::uint64_t index) {
  return options.seeds.empty() ? options.first + index : options.seeds[index];
}

std::uint64_t size_of(const BatchOptions& options) {
  return options.seeds.empty() ? options.count : options.seeds.size();
}

[[noreturn]] void run_child(const BatchOptions& options, Shared& shared, std::uint64_t from) {
  set_log_options({.program = "rnbd-sim", .level = LogLevel::off});
#ifdef RNBD_MUTATIONS
  switched_off = options.switched_off;
#endif
  Report report(
      [&shared](const std::string& what) {
        std::snprintf(shared.what, sizeof(shared.what), "%s", what.c_str());
        ::_exit(kViolated);
      },
      false);
  for (std::uint64_t index = from; index < size_of(options); index += options.jobs) {
    shared.index = index;
    ::alarm(kSecondsMost);
    const Outcome outcome = run_schedule(seed_at(options, index), report, false);
    shared.schedules += 1;
    shared.operations += outcome.operations;
    shared.events += outcome.events;
    shared.hash += outcome.trace_hash;
  }
  ::_exit(0);
}

std::string describe(int status, const Shared& shared) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == kViolated) return shared.what;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "it did not end";
  if (WIFSIGNALED(status)) return std::string("died of ") + strsignal(WTERMSIG(status));
  return "ended with status " + std::to_string(WEXITSTATUS(status));
}

double seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

class Batch {
 public:
  explicit Batch(const BatchOptions& options) : options_(options), children_(options.jobs, -1) {
    void* memory = ::mmap(nullptr, sizeof(Shared) * options.jobs, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    shared_ = static_cast<Shared*>(memory);
  }
  ~Batch() { ::munmap(shared_, sizeof(Shared) * options_.jobs); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  BatchResult run() {
    const auto started = std::chrono::steady_clock::now();
    for (unsigned job = 0; job < options_.jobs; ++job) start(job, job);
    while (reap()) {
    }
    for (unsigned job = 0; job < options_.jobs; ++job) {
      result_.schedules += shared_[job].schedules;
      result_.operations += shared_[job].operations;
      result_.events += shared_[job].events;
      result_.hash += shared_[job].hash;
    }
    result_.schedules += uncounted_;
    rusage used{};
    ::getrusage(RUSAGE_CHILDREN, &used);
    result_.cpu_seconds = seconds(used.ru_utime) + seconds(used.ru_stime);
    result_.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    return std::move(result_);
  }

 private:
  void start(unsigned job, std::uint64_t from) {
    if (from >= size_of(options_)) return;
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) std::abort();
    if (child == 0) run_child(options_, shared_[job], from);
    children_[job] = child;
  }
  // One child that ended; false when there is none left.
  bool reap() {
    int status = 0;
    const pid_t child = ::wait(&status);
    if (child < 0) return false;
    for (unsigned job = 0; job < options_.jobs; ++job) {
      if (children_[job] != child) continue;
      children_[job] = -1;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
      if (result_.failures.size() >= options_.failures_max) return true;  // stopped by us
      const std::uint64_t index = shared_[job].index;
      const bool violated = WIFEXITED(status) && WEXITSTATUS(status) == kViolated;
      if (!violated && !options_.assertions_count) {
        ++uncounted_;
        start(job, index + options_.jobs);
        return true;
      }
      result_.failures.push_back({seed_at(options_, index), describe(status, shared_[job])});
      if (result_.failures.size() < options_.failures_max) {
        start(job, index + options_.jobs);
      } else {
        for (const pid_t other : children_) {
          if (other > 0) ::kill(other, SIGKILL);
        }
      }
    }
    return true;
  }

  const BatchOptions& options_;
  std::vector<pid_t> children_;
  Shared* shared_ = nullptr;
  std::uint64_t uncounted_ = 0;
  BatchResult result_;
};

}  // namespace

BatchResult run_batch(const BatchOptions& options) { return Batch(options).run(); }

}  // namespace rnbd::sim_test
