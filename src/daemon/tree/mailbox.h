#pragma once
// Calls handed to a thread that waits in poll(). Shared with answers on their way, which may come
// after the thread has ended: they are dropped.

#include <sys/eventfd.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace rnbd::daemon {

class Mailbox final {
 public:
  Mailbox() : wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  bool usable() const { return static_cast<bool>(wake_); }
  int fd() const { return wake_.get(); }  // readable when there is something

  // Any thread.
  void post(std::function<void()> call) {
    {
      std::lock_guard lock(mutex_);
      if (closed_) return;
      calls_.push_back(std::move(call));
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(wake_.get(), &one, sizeof one);
  }

  void run() {
    std::uint64_t count = 0;
    [[maybe_unused]] ssize_t n = ::read(wake_.get(), &count, sizeof count);
    for (auto& call : take(false)) call();
  }
  void close() { take(true); }

 private:
  std::vector<std::function<void()>> take(bool last) {
    std::lock_guard lock(mutex_);
    closed_ = closed_ || last;
    return std::exchange(calls_, {});
  }

  UniqueFd wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> calls_;
  bool closed_ = false;
};

}  // namespace rnbd::daemon
