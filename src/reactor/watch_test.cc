#include "reactor/watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "reactor/reactor.h"
#include "reactor/testing.h"

namespace rnbd {
namespace {

using namespace std::chrono_literals;
using testing::run_until;

struct Pair {
  Pair() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    near.reset(fds[0]);
    far.reset(fds[1]);
  }
  void send() { EXPECT_EQ(::write(far.get(), "x", 1), 1); }
  UniqueFd near, far;
};

struct Listener {
  void on_ready(std::uint32_t now) {
    ++calls;
    events |= now;
    if (action) action();
  }
  int calls = 0;
  std::uint32_t events = 0;
  std::function<void()> action;
  Watch watch = Watch::of<&Listener::on_ready>(this);
};

class WatchTest : public ::testing::Test {
 protected:
  std::unique_ptr<Reactor> reactor = std::move(*Reactor::create({.spin_max = 0us}));
  // Everything the ring has to say is said once a nop that was submitted after it came back.
  void settle() {
    struct Nop {
      IoOp op;
      bool done = false;
    } nop;
    nop.op.complete = [](IoOp& op, int, std::uint32_t) { reinterpret_cast<Nop&>(op).done = true; };
    reactor->submit(nop.op, [](io_uring_sqe* entry) { io_uring_prep_nop(entry); });
    EXPECT_TRUE(run_until(*reactor, [&] { return nop.done; }));
  }
};

TEST_F(WatchTest, ReportsWhatIsReadyAtStartAndEveryLaterEdge) {
  Pair pair;
  pair.send();
  Listener listener;
  listener.watch.start(*reactor, pair.near.get(), POLLIN);
  EXPECT_TRUE(run_until(*reactor, [&] { return listener.calls == 1; }));
  for (int i = 2; i < 6; ++i) {
    pair.send();
    EXPECT_TRUE(run_until(*reactor, [&] { return listener.calls == i; }));
  }
  EXPECT_TRUE(listener.events & POLLIN);
}

TEST_F(WatchTest, SaysNothingAfterStop) {
  Pair pair;
  Listener listener;
  listener.watch.start(*reactor, pair.near.get(), POLLIN);
  settle();
  pair.send();  // the event may already be on its way
  listener.watch.stop();
  EXPECT_FALSE(listener.watch.active());
  settle();
  EXPECT_EQ(listener.calls, 0);
}

TEST_F(WatchTest, MayBeDestroyedInsideItsCall) {
  Pair pair;
  auto listener = std::make_unique<Listener>();
  bool called = false;
  listener->action = [&] {
    called = true;
    auto gone = std::move(listener);
    // action dies with *gone: nothing of it may be touched from here on
  };
  listener->watch.start(*reactor, pair.near.get(), POLLIN);
  pair.send();
  EXPECT_TRUE(run_until(*reactor, [&] { return called; }));
  pair.send();
  settle();
}

TEST_F(WatchTest, MayBeRestartedWithAnotherMaskInsideItsCall) {
  Pair pair;
  Listener listener;
  listener.watch.start(*reactor, pair.near.get(), POLLIN);
  listener.action = [&] {
    if (listener.calls == 1) listener.watch.start(*reactor, pair.near.get(), POLLIN | POLLOUT);
  };
  pair.send();
  EXPECT_TRUE(run_until(*reactor, [&] { return (listener.events & POLLOUT) != 0; }));
}

TEST_F(WatchTest, TellsOfTheOtherSideHangingUp) {
  Pair pair;
  Listener listener;
  listener.watch.start(*reactor, pair.near.get(), POLLIN | POLLRDHUP);
  settle();
  pair.far.reset();
  EXPECT_TRUE(run_until(*reactor, [&] { return (listener.events & POLLRDHUP) != 0; }));
}

TEST_F(WatchTest, TellsOfABadDescriptorOnceAndStops) {
  Listener listener;
  listener.watch.start(*reactor, 999999, POLLIN);
  EXPECT_TRUE(run_until(*reactor, [&] { return listener.calls == 1; }));
  EXPECT_EQ(listener.events, static_cast<std::uint32_t>(POLLNVAL));
  EXPECT_FALSE(listener.watch.active());
  settle();
  EXPECT_EQ(listener.calls, 1);
}

TEST_F(WatchTest, ReleasesTheFileSoonAfterStop) {
  Pair pair;
  Listener near;
  near.watch.start(*reactor, pair.near.get(), POLLIN);
  settle();
  near.watch.stop();
  pair.near.reset();
  settle();
  char byte = 0;
  EXPECT_EQ(::read(pair.far.get(), &byte, 1),
            0);  // end of file: nobody holds the other end any more
}

TEST_F(WatchTest, ReusesPollsInsteadOfGrowing) {
  Pair pair;
  Listener listener;
  for (int i = 0; i < 500; ++i) {
    listener.watch.start(*reactor, pair.near.get(), POLLIN);
    if (i % 3 == 0) settle();
    listener.watch.stop();
    if (i % 2 == 0) settle();
  }
  settle();
  EXPECT_LE(reactor->polls().size(), 8U);
}

TEST_F(WatchTest, OutlivesItsReactorAsAStoppedWatch) {
  Pair pair;
  Listener listener;
  listener.watch.start(*reactor, pair.near.get(), POLLIN);
  settle();
  reactor.reset();
  EXPECT_FALSE(listener.watch.active());
  listener.watch.stop();
}

// A hook that polls a queue of its own, as an RDMA completion queue is.
struct PolledQueue final : PollHook {
  explicit PolledQueue(std::vector<std::string>& order_) : order(order_) {}
  bool poll() override {
    if (!std::exchange(full, false)) return false;
    order.push_back("queue");
    return true;
  }
  bool full = false;
  std::vector<std::string>& order;
};

TEST_F(WatchTest, R5_AfterAStallEventsAreHeardBeforeQueuesArePolled) {
  Pair pair;
  std::vector<std::string> order;
  Listener listener;
  listener.action = [&] { order.push_back("event"); };
  listener.watch.start(*reactor, pair.near.get(), POLLIN);
  PolledQueue queue(order);
  reactor->add_hook(queue);
  settle();
  reactor->post([&] {
    queue.full = true;
    pair.send();
    const auto until = std::chrono::steady_clock::now() + 600ms;
    while (std::chrono::steady_clock::now() < until) {
    }
  });
  EXPECT_TRUE(run_until(*reactor, [&] { return order.size() == 2; }));
  EXPECT_EQ(order, (std::vector<std::string>{"event", "queue"}));
}

}  // namespace
}  // namespace rnbd
