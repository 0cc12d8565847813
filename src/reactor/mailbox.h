#pragma once
// Calls from other threads to a loop. Posting to a loop that is awake costs no system call.

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace rnbd {

class Mailbox {
 public:
  std::error_code create();

  // Any thread.
  void post(std::function<void()> call);
  void wake();  // ends a sleep, or keeps the loop from the next one

  // The loop's thread.
  bool has_mail() const { return mail_.load(std::memory_order_acquire); }
  bool run();        // runs what had been posted; true if there was any
  bool may_sleep();  // says that the loop is about to sleep; false if something came meanwhile
  void awake() { asleep_.store(false, std::memory_order_relaxed); }
  int wake_fd() const { return wake_fd_.get(); }
  void on_wake_fd();  // drains it

 private:
  void signal();

  UniqueFd wake_fd_;
  std::atomic<bool> asleep_{false};
  std::atomic<bool> mail_{false};  // calls_ may be non-empty, or wake() was called
  std::mutex mutex_;
  std::vector<std::function<void()>> calls_;    // guarded by mutex_
  std::vector<std::function<void()>> running_;  // keeps its capacity from one run to the next
};

}  // namespace rnbd
