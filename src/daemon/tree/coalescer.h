#pragma once
// Asks once for all who want to know at the same time. Who asks while an answer is under way gets
// the next one, as an answer must not be older than its question. One thread.

#include <functional>
#include <utility>
#include <vector>

namespace rnbd::daemon {

template <class Answer>
class Coalescer final {
 public:
  using Want = std::function<void(const Answer&)>;
  // `ask` gets what to call with the answer, once, on this thread, also from inside the call.
  explicit Coalescer(std::function<void(Want)> ask) : ask_(std::move(ask)) {}

  void want(Want want) {
    waiting_.push_back(std::move(want));
    if (!asking_) ask();
  }

 private:
  void ask() {
    asking_ = true;
    asked_ = std::exchange(waiting_, {});
    ask_([this](const Answer& answer) {
      auto told = std::exchange(asked_, {});
      asking_ = false;
      // What they ask for in turn is already another question.
      for (const Want& want : told) want(answer);
      if (!asking_ && !waiting_.empty()) ask();
    });
  }

  std::function<void(Want)> ask_;
  std::vector<Want> waiting_, asked_;
  bool asking_ = false;
};

}  // namespace rnbd::daemon
