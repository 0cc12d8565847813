#pragma once
// A thread for calls that block and that the ring cannot make. It starts with the first job.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace rnbd::backend {

class BlockingWorker {
 public:
  BlockingWorker() = default;
  BlockingWorker(const BlockingWorker&) = delete;
  BlockingWorker& operator=(const BlockingWorker&) = delete;
  ~BlockingWorker();  // after the last job

  void run(std::function<void()> job);  // any thread; in order

 private:
  void work();
  // A mutex, although not in the daemon: the thread exists only to block, and its jobs are rare.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace rnbd::backend
