#include "reactor/mailbox.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

namespace rnbd {

std::error_code Mailbox::create() {
  wake_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  return wake_fd_ ? std::error_code{} : from_errno(errno);
}

void Mailbox::post(std::function<void()> call) {
  {
    const std::scoped_lock lock(mutex_);
    calls_.push_back(std::move(call));
  }
  wake();
}

// Poster: mail_, then asleep_. Sleeper: asleep_, then mail_. Sequentially consistent, so one of
// them sees the other.
void Mailbox::wake() {
  mail_.store(true);
  if (asleep_.load() && asleep_.exchange(false)) signal();
}

bool Mailbox::may_sleep() {
  asleep_.store(true);
  if (!mail_.load()) return true;
  awake();
  return false;
}

bool Mailbox::run() {
  if (!has_mail()) return false;
  mail_.store(false);
  {
    const std::scoped_lock lock(mutex_);
    running_.swap(calls_);
  }
  for (auto& call : running_) call();
  running_.clear();
  return true;
}

void Mailbox::signal() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(wake_fd_.get(), &one, sizeof one);
}

void Mailbox::on_wake_fd() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto taken = ::read(wake_fd_.get(), &count, sizeof count);
}

}  // namespace rnbd
