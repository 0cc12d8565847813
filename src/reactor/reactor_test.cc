#include "reactor/reactor.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <atomic>
#include <future>
#include <vector>

#include "reactor/testing.h"

namespace rnbd {
namespace {

using namespace std::chrono_literals;
using testing::run_until;

std::unique_ptr<Reactor> make_reactor(Duration spin_max = 0us) {
  auto made = Reactor::create({.name = "test", .spin_max = spin_max});
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

TEST(Reactor, RunsWhatWasPostedBeforeItStarted) {
  auto reactor = make_reactor();
  bool ran = false;
  reactor->post([&] { ran = true; });
  EXPECT_TRUE(run_until(*reactor, [&] { return ran; }));
}

TEST(Reactor, RunsPostedCallsInOrderOnItsThread) {
  auto reactor = make_reactor();
  reactor->start();
  std::vector<int> order;
  std::promise<void> done;
  for (int i = 0; i < 100; ++i) {
    reactor->post([&, i] {
      EXPECT_TRUE(reactor->on_this_thread());
      order.push_back(i);
      if (i == 99) done.set_value();
    });
  }
  done.get_future().wait();
  reactor->stop();
  reactor->join();
  ASSERT_EQ(order.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
  EXPECT_TRUE(reactor->on_this_thread());  // after join() this thread owns it again
}

TEST(Reactor, LosesNoPostFromManyThreadsWhetherAsleepSpinningOrAwake) {
  for (const Duration spin : {Duration(0us), Duration(50us)}) {
    auto reactor = make_reactor(spin);
    reactor->start();
    constexpr int kEach = 3000;
    int ran = 0;
    std::vector<std::thread> posters;
    std::promise<void> done;
    for (int t = 0; t < 4; ++t) {
      posters.emplace_back([&] {
        for (int i = 0; i < kEach; ++i) {
          reactor->post([&] {
            if (++ran == 4 * kEach) done.set_value();
          });
          if (i % 16 == 0) std::this_thread::yield();
        }
      });
    }
    EXPECT_EQ(done.get_future().wait_for(20s), std::future_status::ready);
    for (auto& thread : posters) thread.join();
    reactor->stop();
    reactor->join();
    EXPECT_EQ(ran, 4 * kEach);
  }
}

TEST(Reactor, StopsWhenStoppedTwiceOrBeforeItRuns) {
  auto reactor = make_reactor();
  reactor->stop();
  reactor->stop();
  reactor->run();
  bool ran = false;
  reactor->post([&] { ran = true; });
  EXPECT_TRUE(run_until(*reactor, [&] { return ran; }));  // and runs again afterwards
  reactor->stop();
}

TEST(Reactor, DestructorStopsAndJoins) {
  auto reactor = make_reactor();
  reactor->start();
  std::promise<void> up;
  reactor->post([&] { up.set_value(); });
  up.get_future().wait();
  reactor.reset();
}

// A source of work that can wake the loop only when it was armed.
struct Armable final : PollHook {
  explicit Armable(Reactor& reactor) : loop(reactor) {}
  bool poll() override { return std::exchange(found, false); }
  bool arm() override {
    ++arms;
    if (arms == 1) return true;  // there was work meanwhile
    armed = true;
    unlink();
    loop.post([this] { done = armed; });
    return false;
  }
  Reactor& loop;
  int arms = 0;
  bool found = false, armed = false, done = false;
};

TEST(Reactor, ArmsItsHooksBeforeItSleepsAndDoesNotSleepOnWork) {
  auto reactor = make_reactor();
  Armable hook(*reactor);
  reactor->add_hook(hook);
  EXPECT_TRUE(run_until(*reactor, [&] { return hook.done; }));
  EXPECT_EQ(hook.arms, 2);
  EXPECT_FALSE(hook.linked());
}

TEST(Reactor, DropsCallsThatNeverRan) {
  auto token =
      std::make_shared<int>(1);  // shared with the posted call, whose destruction is the claim
  std::weak_ptr<int> watch = token;
  auto reactor = make_reactor();
  reactor->post([token] {});
  token.reset();
  EXPECT_FALSE(watch.expired());
  reactor.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(Reactor, FiresTimersInOrderAndNeverEarly) {
  auto reactor = make_reactor();
  struct Shot {
    explicit Shot(Reactor& r, std::vector<int>& log, int number)
        : out(log), n(number), timer(Timer::of<&Shot::fire>(r, this)), loop(r) {}
    void fire() {
      EXPECT_GE(loop.now(), timer.deadline());
      out.push_back(n);
    }
    std::vector<int>& out;
    int n;
    Timer timer;
    Reactor& loop;
  };
  std::vector<int> order;
  Shot a(*reactor, order, 1), b(*reactor, order, 2), c(*reactor, order, 3),
      never(*reactor, order, 4);
  c.timer.arm_after(3ms);
  a.timer.arm_after(0ms);
  b.timer.arm_after(1ms);
  never.timer.arm_after(2ms);
  never.timer.disarm();
  EXPECT_TRUE(run_until(*reactor, [&] { return order.size() == 3; }));
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(Reactor, TakesBackTimersAndTasksDestroyedInsideHandlers) {
  auto reactor = make_reactor();
  struct Node {
    explicit Node(Reactor& r, std::unique_ptr<Node>* other_, int* count_)
        : timer(Timer::of<&Node::hit>(r, this)),
          task(Task::of<&Node::hit>(this)),
          other(other_),
          count(count_) {}
    void hit() {
      ++*count;
      other->reset();
    }
    Timer timer;
    Task task;
    std::unique_ptr<Node>* other;
    int* count;
  };
  int timers = 0;
  int tasks = 0;
  bool done = false;
  std::unique_ptr<Node> a, b, c, d;
  a = std::make_unique<Node>(*reactor, &b, &timers);
  b = std::make_unique<Node>(*reactor, &a, &timers);
  c = std::make_unique<Node>(*reactor, &d, &tasks);
  d = std::make_unique<Node>(*reactor, &c, &tasks);
  a->timer.arm_after(0ms);
  b->timer.arm_after(0ms);
  reactor->defer(c->task);
  reactor->defer(d->task);
  reactor->post([&] { done = true; });
  EXPECT_TRUE(run_until(*reactor, [&] { return done && timers + tasks > 1; }));
  EXPECT_EQ(timers, 1);
  EXPECT_EQ(tasks, 1);
}

TEST(Reactor, RunsATaskDeferredByATaskWithoutSleeping) {
  auto reactor = make_reactor();
  struct Chain {
    explicit Chain(Reactor& r) : loop(r) {}
    void step() {
      if (++steps < 5000) loop.defer(task);
    }
    Reactor& loop;
    int steps = 0;
    Task task = Task::of<&Chain::step>(this);
  } chain(*reactor);
  reactor->defer(chain.task);
  reactor->defer(chain.task);  // already waiting: no-op
  const auto before = reactor->stats().sleeps;
  EXPECT_TRUE(run_until(*reactor, [&] { return chain.steps >= 5000; }));
  EXPECT_EQ(chain.steps, 5000);
  EXPECT_EQ(reactor->stats().sleeps, before);
}

TEST(Reactor, ATaskThatAlwaysDefersItselfDoesNotStarveIoAndTimers) {
  auto reactor = make_reactor();
  struct Greedy {
    explicit Greedy(Reactor& r) : loop(r) {}
    void step() { loop.defer(task); }
    Reactor& loop;
    Task task = Task::of<&Greedy::step>(this);
  } greedy(*reactor);
  struct Nop {
    IoOp op;
    bool done = false;
  } nop;
  nop.op.complete = [](IoOp& op, int, std::uint32_t) { reinterpret_cast<Nop&>(op).done = true; };
  bool fired = false;
  Timer timer(
      *reactor, [](void* flag) { *static_cast<bool*>(flag) = true; }, &fired);
  timer.arm_after(1ms);
  reactor->defer(greedy.task);
  reactor->submit(nop.op, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
  EXPECT_TRUE(run_until(*reactor, [&] { return nop.done && fired; }));
}

struct CountedNop {
  IoOp op;
  int* count = nullptr;
  static void complete(IoOp& op, int result, std::uint32_t) {
    EXPECT_EQ(result, 0);
    ++*reinterpret_cast<CountedNop&>(op).count;
  }
};

TEST(Reactor, SubmitsMoreOperationsInOneHandlerThanTheRingHolds) {
  auto made = Reactor::create({.ring_entries = 8, .spin_max = 0us});
  ASSERT_TRUE(made);
  int count = 0;
  std::vector<CountedNop> nops(1000);
  (*made)->post([&] {
    for (auto& nop : nops) {
      nop.op.complete = &CountedNop::complete;
      nop.count = &count;
      (*made)->submit(nop.op, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
    }
  });
  EXPECT_TRUE(run_until(**made, [&] { return count == 1000; }));
}

TEST(Reactor, SubmitsAWholeRoundInOneSystemCall) {
  auto reactor = make_reactor();
  int count = 0;
  std::vector<CountedNop> nops(64);
  std::uint64_t enters = 0;
  reactor->post([&] {
    enters = reactor->stats().enters;
    for (auto& nop : nops) {
      nop.op.complete = &CountedNop::complete;
      nop.count = &count;
      reactor->submit(nop.op, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
    }
  });
  EXPECT_TRUE(run_until(*reactor, [&] { return count == 64; }));
  EXPECT_EQ(reactor->stats().enters, enters + 1);
}

TEST(Reactor, CancelsAnOperationInFlight) {
  auto reactor = make_reactor();
  struct Wait {
    IoOp op;
    int result = 1;
  } wait;
  wait.op.complete = [](IoOp& op, int result, std::uint32_t) {
    reinterpret_cast<Wait&>(op).result = result;
  };
  __kernel_timespec hour{.tv_sec = 3600, .tv_nsec = 0};
  reactor->submit(wait.op, [&](io_uring_sqe* entry) { io_uring_prep_timeout(entry, &hour, 0, 0); });
  reactor->post([&] { reactor->cancel(wait.op); });
  EXPECT_TRUE(run_until(*reactor, [&] { return wait.result != 1; }));
  EXPECT_EQ(wait.result, -ECANCELED);
}

TEST(Reactor, AnIdleReactorSleepsAndUsesNoCpu) {
  auto reactor = make_reactor(50us);
  Timer wake(
      *reactor, [](void* r) { static_cast<Reactor*>(r)->stop(); }, reactor.get());
  wake.arm_after(100ms);
  rusage before{}, after{};
  ::getrusage(RUSAGE_THREAD, &before);
  reactor->run();
  ::getrusage(RUSAGE_THREAD, &after);
  const auto cpu_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                      after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec -
                      before.ru_stime.tv_usec;
  EXPECT_LT(cpu_us, 10000);
  EXPECT_LE(reactor->stats().rounds, 10U);
}

TEST(Reactor, ItsThreadBlocksSignals) {
  auto reactor = make_reactor();
  reactor->start();
  std::promise<sigset_t> mask;
  reactor->post([&] {
    sigset_t set;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &set);
    mask.set_value(set);
  });
  const sigset_t set = mask.get_future().get();
  EXPECT_TRUE(sigismember(&set, SIGTERM));
  EXPECT_TRUE(sigismember(&set, SIGPIPE));
  EXPECT_FALSE(sigismember(&set, SIGSEGV));
}

TEST(Reactor, HooksMayDestroyThemselvesAndEachOther) {
  auto reactor = make_reactor();
  struct Killer final : PollHook {
    bool poll() override {
      ++*count;
      auto* mine = self;
      other->reset();
      mine->reset();
      return true;
    }
    int* count = nullptr;
    std::unique_ptr<PollHook>* self = nullptr;
    std::unique_ptr<PollHook>* other = nullptr;
  };
  int count = 0;
  std::unique_ptr<PollHook> a, b;
  auto set_up = [&](std::unique_ptr<PollHook>& self, std::unique_ptr<PollHook>& other) {
    auto hook = std::make_unique<Killer>();
    hook->count = &count;
    hook->self = &self;
    hook->other = &other;
    reactor->add_hook(*hook);
    self = std::move(hook);
  };
  set_up(a, b);
  set_up(b, a);
  EXPECT_TRUE(run_until(*reactor, [&] { return a == nullptr && b == nullptr; }));
  EXPECT_EQ(count, 1);
}

TEST(Reactor, FindsRegisteredBuffersOnlyForBytesWhollyInside) {
  auto reactor = make_reactor();
  std::vector<std::byte> memory(64 * 1024);
  const int index = reactor->register_buffer(memory);
  if (index < 0) GTEST_SKIP() << "the kernel refuses registered buffers here (memlock limit?)";
  EXPECT_EQ(reactor->buffer_index(memory.data(), memory.size()), index);
  EXPECT_EQ(reactor->buffer_index(memory.data() + 4096, 4096), index);
  EXPECT_EQ(reactor->buffer_index(memory.data() + 4096, memory.size()), -1);
  EXPECT_EQ(reactor->buffer_index(memory.data() - 1, 2), -1);
  EXPECT_EQ(reactor->buffer_index(memory.data() + memory.size(), 1), -1);
  reactor->unregister_buffer(index);
  EXPECT_EQ(reactor->buffer_index(memory.data(), 1), -1);
  EXPECT_EQ(reactor->register_buffer(memory), index);  // the slot is reused
  reactor->unregister_buffer(index);
  reactor->unregister_buffer(-1);
}

TEST(Reactor, RefusesBuffersBeyondItsTableWithoutHarm) {
  auto reactor = make_reactor();
  std::vector<std::byte> memory(4096 * (BufferTable::kSlots + 1));
  std::vector<int> indices;
  for (std::size_t i = 0; i <= BufferTable::kSlots; ++i) {
    indices.push_back(reactor->register_buffer(std::span(memory).subspan(i * 4096, 4096)));
  }
  EXPECT_EQ(indices.back(), -1);
  EXPECT_EQ(reactor->register_buffer({}), -1);
  for (const int index : indices) reactor->unregister_buffer(index);
}

TEST(Reactor, KnowsWhatTheKernelSupports) {
  auto reactor = make_reactor();
  EXPECT_TRUE(reactor->supports(IORING_OP_READV));
  EXPECT_FALSE(reactor->supports(255));
}

}  // namespace
}  // namespace rnbd
