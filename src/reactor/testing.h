#pragma once
// For tests: run a reactor on the test's own thread until something is true.

#include <chrono>

#include "reactor/reactor.h"

namespace rnbd::testing {

// Runs `reactor` on this thread until `condition()` holds; false when `limit` passed first. The
// condition is asked once per round, after every handler that might have made it true.
template <class Condition>
bool run_until(Reactor& reactor, Condition condition, Duration limit = std::chrono::seconds(20)) {
  struct Asker final : PollHook {
    Asker(Reactor& r, Condition& c) : loop(r), holds(c) {}
    bool poll() override {
      if (!done && holds()) {
        done = true;
        loop.stop();
      }
      return false;
    }
    Reactor& loop;
    Condition& holds;
    bool done = false;
  };
  Asker asker(reactor, condition);
  reactor.add_hook(asker);
  Timer too_late(
      reactor, [](void* loop) { static_cast<Reactor*>(loop)->stop(); }, &reactor);
  too_late.arm_after(limit);
  reactor.run();
  return asker.done;
}

}  // namespace rnbd::testing
