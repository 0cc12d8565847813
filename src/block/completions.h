#pragma once
// For queues that know a result at once: keeps finished requests until the loop may call `done`,
// which must never happen inside submit(). Embedded in a queue. The last `done` may destroy the
// queue.

#include <system_error>

#include "base/loop.h"
#include "block/request.h"

namespace rnbd::block {

class Completions {
 public:
  explicit Completions(Executor& executor) : executor_(executor) {}
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  void add(Request& request, std::error_code result) {
    request.result = result;
    finished_.push_back(request);
    executor_.defer(task_);
  }
  bool empty() const { return finished_.empty(); }

 private:
  void deliver() {
    IntrusiveList<Request> batch;  // nothing of *this is touched once the last one was delivered
    batch.splice_back(finished_);
    while (!batch.empty()) {
      Request& request = batch.pop_front();
      request.done(request);
    }
  }
  Executor& executor_;
  IntrusiveList<Request> finished_;
  Task task_ = Task::of<&Completions::deliver>(this);
};

}  // namespace rnbd::block
