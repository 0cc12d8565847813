#include "reactor/reactor.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd {
namespace {

// How often in a round the tasks deferred meanwhile get their turn.
constexpr int kTaskTurnsPerRound = 4;
// A turn of the spinning loop takes well under a microsecond; if it took this long, others had the
// CPU.
constexpr Duration kDisturbed = std::chrono::microseconds(10);
// Half of the shortest usual heartbeat: from then on a peer may have given us up.
constexpr Duration kStall = std::chrono::milliseconds(250);

// All but the signals a thread raises by its own mistake, which must find their handler.
sigset_t signals_to_block() {
  sigset_t set;
  sigfillset(&set);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS})
    sigdelset(&set, fault);
  return set;
}

void pin_this_thread(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(cpu), &set);
  const int error = ::pthread_setaffinity_np(::pthread_self(), sizeof set, &set);
  if (error != 0) log_warning("cannot pin a reactor to CPU {}: {}", cpu, std::strerror(error));
}

// Asked every round: the C library reads it from memory the kernel keeps up to date.
unsigned current_cpu() {
  const int cpu = ::sched_getcpu();
  return cpu < 0 ? 0 : static_cast<unsigned>(cpu);
}

void relax_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Reactor::Reactor(const ReactorOptions& options)
    : options_(options),
      spin_(options.spin_max),
      now_(clock_now()),
      owner_(std::this_thread::get_id()) {}

Result<std::unique_ptr<Reactor>> Reactor::create(const ReactorOptions& options) {
  std::unique_ptr<Reactor> reactor(new Reactor(options));
  if (auto error = reactor->ring_.create(options.ring_entries)) {
    log_error("cannot set up io_uring: {}", error.message());
    return fail(error);
  }
  if (auto error = reactor->mailbox_.create()) {
    log_error("cannot make an eventfd: {}", error.message());
    return fail(error);
  }
  reactor->wake_watch_.start(*reactor, reactor->mailbox_.wake_fd(), POLLIN);
  return reactor;
}

Reactor::~Reactor() {
  stop();
  join();
}

void Reactor::start() {
  RNBD_ASSERT(!thread_.joinable());
  sigset_t mask = signals_to_block();
  sigset_t old;
  ::pthread_sigmask(SIG_SETMASK, &mask,
                    &old);  // inherited, so no signal can come before the thread blocks it
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), options_.name.substr(0, 15).c_str());
    if (options_.cpu >= 0) pin_this_thread(options_.cpu);
    run();
  });
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void Reactor::run() {
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  const std::error_code enabled = ring_.enable();
  RNBD_ASSERT(!enabled);
  now_ = clock_now();
  running_ = true;
  while (!stop_.load(std::memory_order_acquire)) {
    const bool worked = round();
    // Asked again: the round may have emptied the mailbox whose wake-up stop() relied on.
    if (!stop_.load(std::memory_order_acquire)) idle(worked);
  }
  if (ring_.needs_flush())
    ring_.flush();  // nothing queued stays behind, cancellations least of all
  running_ = false;
  stop_.store(false, std::memory_order_relaxed);
  ring_.disable();
}

void Reactor::stop() {
  stop_.store(true, std::memory_order_release);
  mailbox_.wake();
}

void Reactor::join() {
  if (!thread_.joinable()) return;
  RNBD_ASSERT(thread_.get_id() != std::this_thread::get_id());
  thread_.join();
  owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
}

unsigned Reactor::cpu_count() const { return static_cast<unsigned>(::get_nprocs_conf()); }

void Reactor::post(std::function<void()> call) { mailbox_.post(std::move(call)); }

void Reactor::add_hook(PollHook& hook) {
  if (!hook.linked()) hooks_.push_back(hook);
}

void Reactor::cancel(IoOp& op) {
  io_uring_sqe* entry = ring_.get_sqe();
  io_uring_prep_cancel(entry, &op, 0);
  io_uring_sqe_set_data(entry, nullptr);
  if (ring_.skips_success()) entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

bool Reactor::round() {
  ++stats_.rounds;
  bool worked = now_ - last_round_ > kStall && look_up_after_stall();
  last_round_ = now_;
  cpu_ = current_cpu();
  worked |= poll_hooks();
  worked |= reap();
  worked |= timers_.run_due(now_);
  worked |= mailbox_.run();
  worked |= run_tasks();
  return worked;
}

// This process stood still (stopped, a paused machine, swapped out): what ended meanwhile, the ring
// tells, and it must be known before a queue that a hook polls yields work of before (safety rule
// R5).
bool Reactor::look_up_after_stall() {
  ring_.flush();
  return reap();
}

bool Reactor::poll_hooks() { return ask_hooks(&PollHook::poll); }

bool Reactor::arm_hooks() { return ask_hooks(&PollHook::arm); }

bool Reactor::ask_hooks(bool (PollHook::*question)()) {
  bool worked = false;
  // A hook may destroy itself or any other: take them from the front, one turn each.
  IntrusiveList<PollHook> asked;
  while (!hooks_.empty()) {
    PollHook& hook = hooks_.pop_front();
    asked.push_back(hook);
    worked |= (hook.*question)();
  }
  hooks_.splice_back(asked);
  return worked;
}

bool Reactor::reap() {
  io_uring_cqe completion;
  unsigned left = io_uring_cq_ready(&ring_.raw());
  const bool worked = left != 0;
  for (; left > 0 && ring_.pop(completion); --left) {
    auto* op = reinterpret_cast<IoOp*>(static_cast<std::uintptr_t>(completion.user_data));
    if (op == nullptr) continue;  // a cancellation's own answer
    ++stats_.completions;
    op->complete(*op, completion.res, completion.flags);
  }
  return worked;
}

bool Reactor::run_tasks() {
  if (tasks_.empty()) return false;
  // Chains of tasks (deliver, then flush) finish in one round; one that defers itself for ever must
  // not keep the ring waiting.
  for (int turn = 0; turn < kTaskTurnsPerRound && !tasks_.empty(); ++turn) {
    IntrusiveList<Task> due;
    due.splice_back(tasks_);
    while (!due.empty()) due.pop_front().run();
  }
  return true;
}

// Between two rounds: submits what the round queued, and waits when it found nothing to do.
void Reactor::idle(bool worked) {
  const Duration budget = spin_.budget();
  // Nothing else can have work now: submit and sleep in one system call.
  const bool only_ring_left = hooks_.empty() && tasks_.empty() && budget == Duration::zero();
  if (worked && !only_ring_left) {
    if (ring_.needs_flush()) {
      ++stats_.enters;
      ring_.flush();
    }
    now_ = clock_now();
    return;
  }
  idle_since_ = clock_now();
  if (budget > Duration::zero() && spin(idle_since_ + budget)) return;
  sleep();
}

// Looks for work in memory until `until` or the next timer; true if there is any (or a timer is
// due).
bool Reactor::spin(TimePoint until) {
  ++stats_.spins;
  if (const auto deadline = timers_.next_deadline()) until = std::min(until, *deadline);
  if (ring_.needs_flush()) {
    ++stats_.enters;
    ring_.flush();
  }
  now_ = idle_since_;
  bool undisturbed = true;
  for (;;) {
    bool found = ring_.cqe_ready() || mailbox_.has_mail() || poll_hooks();
    if (!found && ring_.needs_flush()) {
      ++stats_.enters;
      ring_.flush();
      found = ring_.cqe_ready();
    }
    const TimePoint before = now_;
    now_ = clock_now();
    if (found) {
      ++stats_.spin_hits;
      if (undisturbed) spin_.found(now_ - idle_since_);
      return true;
    }
    if (undisturbed && now_ - before > kDisturbed) {
      undisturbed = false;
      spin_.preempted();
    }
    if (now_ >= until) return false;
    relax_cpu();
  }
}

void Reactor::sleep() {
  const Duration spun = now_ > idle_since_ ? now_ - idle_since_ : Duration::zero();
  if (!hooks_.empty() && arm_hooks()) {
    now_ = clock_now();
    return;
  }
  std::optional<Duration> timeout;
  if (const auto deadline = timers_.next_deadline())
    timeout = std::max(*deadline - idle_since_ - spun, Duration::zero());
  if (!mailbox_.may_sleep()) {
    now_ = clock_now();
    return;
  }
  ++stats_.sleeps;
  ++stats_.enters;
  ring_.wait(timeout);
  mailbox_.awake();
  now_ = clock_now();
  // A sleep that a timer ended says nothing about when work comes.
  if (ring_.cqe_ready()) spin_.missed(spun, now_ - idle_since_);
}

void Reactor::on_wake(std::uint32_t) { mailbox_.on_wake_fd(); }

}  // namespace rnbd
