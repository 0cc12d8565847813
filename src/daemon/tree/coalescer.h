#pragma once
// Asks once for all who want to know at the same time. Who asks while an answer is under way gets
// the next one, as an answer must not be older than its question; who is content with an older one
// says how old. One thread.

#include <chrono>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/loop.h"

namespace rnbd::daemon {

template <class Answer>
class Coalescer final {
 public:
  using Want = std::function<void(const Answer&)>;
  using Clock = std::function<TimePoint()>;
  static TimePoint steady() { return std::chrono::steady_clock::now(); }

  // `ask` gets what to call with the answer, once, on this thread, also from inside the call.
  explicit Coalescer(std::function<void(Want)> ask, Clock clock = &steady)
      : ask_(std::move(ask)), clock_(std::move(clock)) {}

  void want(Want want) {
    waiting_.push_back(std::move(want));
    if (!asking_) ask();
  }

  // What was asked for after `since` will do, also if it is under way.
  void want_since(TimePoint since, Want want) {
    if (last_ && last_since_ > since) return want(Answer(*last_));  // it may ask in turn
    if (asking_ && asked_since_ > since) return asked_.push_back(std::move(want));
    this->want(std::move(want));
  }

 private:
  void ask() {
    asking_ = true;
    asked_ = std::exchange(waiting_, {});
    asked_since_ = clock_();
    ask_([this](const Answer& answer) {
      auto told = std::exchange(asked_, {});
      asking_ = false;
      last_ = answer;
      last_since_ = asked_since_;
      // What they ask for in turn is already another question.
      for (const Want& want : told) want(answer);
      if (!asking_ && !waiting_.empty()) ask();
    });
  }

  std::function<void(Want)> ask_;
  Clock clock_;
  std::vector<Want> waiting_, asked_;
  bool asking_ = false;
  TimePoint asked_since_{}, last_since_{};
  std::optional<Answer> last_;
};

}  // namespace rnbd::daemon
