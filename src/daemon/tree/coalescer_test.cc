#include "daemon/tree/coalescer.h"

#include <gtest/gtest.h>

#include <deque>

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

// Who is asked answers when the test says so, with the number of the question.
struct Asked {
  TimePoint now{1s};
  int questions = 0;
  std::deque<std::pair<int, Coalescer<int>::Want>> open;
  Coalescer<int> coalescer{
      [this](Coalescer<int>::Want tell) { open.emplace_back(++questions, std::move(tell)); },
      [this] { return now; }};
  std::vector<int> told;

  Coalescer<int>::Want note() {
    return [this](int answer) { told.push_back(answer); };
  }
  void answer() {
    auto [number, tell] = std::move(open.front());
    open.pop_front();
    tell(number);
  }
};

TEST(Coalescer, WhoAsksWhileAnAnswerIsUnderWayGetsTheNext) {
  Asked asked;
  asked.coalescer.want(asked.note());
  asked.coalescer.want(asked.note());
  asked.coalescer.want(asked.note());
  EXPECT_EQ(asked.questions, 1);
  asked.answer();
  EXPECT_EQ(asked.told, (std::vector{1}));
  asked.answer();
  EXPECT_EQ(asked.told, (std::vector{1, 2, 2}));
  EXPECT_EQ(asked.questions, 2);
}

TEST(Coalescer, WhoIsContentWithLessGetsWhatWasAskedForAfterThen) {
  Asked asked;
  asked.coalescer.want(asked.note());
  asked.now += 5ms;
  asked.answer();
  asked.coalescer.want_since(TimePoint(1s) - 1ns, asked.note());
  EXPECT_EQ(asked.told, (std::vector{1, 1}));
  asked.coalescer.want_since(TimePoint(1s), asked.note());  // not after, but at that time
  EXPECT_EQ(asked.questions, 2);
  asked.answer();
  EXPECT_EQ(asked.told, (std::vector{1, 1, 2}));
}

TEST(Coalescer, AnAnswerUnderWayIsSharedIfItsQuestionWasLateEnough) {
  Asked asked;
  asked.coalescer.want(asked.note());
  asked.coalescer.want_since(TimePoint(1s) - 1ns, asked.note());
  asked.now += 1ms;
  asked.coalescer.want_since(TimePoint(1s), asked.note());
  asked.answer();
  EXPECT_EQ(asked.told, (std::vector{1, 1}));
  asked.answer();
  EXPECT_EQ(asked.told, (std::vector{1, 1, 2}));
}

}  // namespace
}  // namespace rnbd::daemon
