#include "backend/file/blocking_worker.h"

#include <pthread.h>
#include <signal.h>

#include <utility>

namespace rnbd::backend {

BlockingWorker::~BlockingWorker() {
  {
    const std::scoped_lock lock(mutex_);
    stop_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void BlockingWorker::run(std::function<void()> job) {
  const std::scoped_lock lock(mutex_);
  jobs_.push_back(std::move(job));
  changed_.notify_one();
  if (thread_.joinable()) return;
  sigset_t all;
  sigset_t old;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &old);  // signals are the daemon's own thread's
  thread_ = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "file-blocking");
    work();
  });
  ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void BlockingWorker::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
    job = nullptr;
    lock.lock();
  }
}

}  // namespace rnbd::backend
