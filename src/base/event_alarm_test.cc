#include "base/event_alarm.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/event.h"
#include "base/event_limit.h"
#include "base/timer_queue.h"

namespace rnbd {
namespace {

using namespace std::chrono_literals;

// Time that only goes on when it is told to.
class TestLoop final : public Loop {
 public:
  TestLoop() {
    now_ =
        TimePoint(std::chrono::steady_clock::now().time_since_epoch() + 1h);  // after other tests
    set_event_clock([] { return now_; });
  }
  ~TestLoop() override { set_event_clock(nullptr); }
  void advance(Duration time) {
    const TimePoint end = now_ + time;
    run();
    while (timers_.next_deadline() && *timers_.next_deadline() <= end) {
      now_ = *timers_.next_deadline();
      timers_.run_due(now_);
      run();
    }
    now_ = end;
  }
  bool idle() const { return !timers_.next_deadline(); }

  TimePoint now() const override { return now_; }
  void arm(Timer& timer, TimePoint deadline) override { timers_.arm(timer, deadline); }
  void disarm(Timer& timer) override { timers_.disarm(timer); }
  void defer(Task& task) override { task.run(); }
  void post(std::function<void()> call) override { posted_.push_back(std::move(call)); }
  bool on_this_thread() const override { return true; }

 private:
  void run() {
    for (const auto& call : std::exchange(posted_, {})) call();
  }
  inline static TimePoint now_;
  TimerQueue timers_;
  std::vector<std::function<void()>> posted_;
};

class EventAlarmTest : public ::testing::Test {
 protected:
  EventAlarmTest() { set_log_options({.program = "test", .level = LogLevel::off}); }
  ~EventAlarmTest() override {
    loop_.advance(EventLimit::kWhile);  // leaves nothing to other tests
    tell_counted_events();
    set_log_options({});
  }
  static void flap(int times) {
    for (int i = 0; i < times; ++i) log_event({.name = "path_lost", .session = "s"}, "lost");
  }
  std::vector<std::string> counts() const {
    std::vector<std::string> texts;
    for (const Event& event : heard_)
      if (event.name == "repeated") texts.push_back(event.text);
    return texts;
  }
  TestLoop loop_;
  std::vector<Event> heard_;
  EventSubscription subscription_{[this](const Event& event) { heard_.push_back(event); }};
};

using Texts = std::vector<std::string>;

TEST_F(EventAlarmTest, TellsTheCountWhenItsWhileIsOverThoughNothingElseHappens) {
  EventAlarm alarm(loop_);
  flap(25);
  loop_.advance(EventLimit::kWhile - 1ns);
  EXPECT_EQ(counts(), Texts{});
  loop_.advance(1ns);
  EXPECT_EQ(counts(), Texts{"<s> path_lost: said 15 times more"});
  EXPECT_TRUE(loop_.idle());
  flap(11);  // and anew
  loop_.advance(EventLimit::kWhile);
  EXPECT_EQ(counts().size(), 2U);
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EventAlarmTest, TellsEachOfSeveralInItsTime) {
  EventAlarm alarm(loop_);
  flap(11);
  loop_.advance(4s);
  for (int i = 0; i < 300; ++i)
    log_event({.name = "path_connected", .session = std::to_string(i), .of_peer = true}, "up");
  loop_.advance(6s);
  EXPECT_EQ(counts(), Texts{"<s> path_lost: said 1 times more"});
  loop_.advance(4s);
  EXPECT_EQ(counts(),
            (Texts{"<s> path_lost: said 1 times more", "path_connected: said 100 times more"}));
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EventAlarmTest, WhatIsSaidWakesNobody) {
  EventAlarm alarm(loop_);
  flap(3);
  loop_.advance(1s);
  EXPECT_TRUE(loop_.idle());
}

TEST_F(EventAlarmTest, GoneItIsNotCalledAndTheNextTakesOver) {
  {
    EventAlarm alarm(loop_);
    flap(12);
  }
  loop_.advance(1s);  // what was posted to it finds nobody
  EXPECT_TRUE(loop_.idle());
  EventAlarm next(loop_);
  loop_.advance(EventLimit::kWhile);
  EXPECT_EQ(counts(), Texts{"<s> path_lost: said 2 times more"});
}

}  // namespace
}  // namespace rnbd
