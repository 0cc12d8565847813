#pragma once
// A line on standard error for what takes longer than a second: only on a terminal, wiped when it
// is done. Has a thread of its own while it lives.

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "base/loop.h"

namespace rnbd::cli {

// "mapping vol0: connecting to ip:10.0.0.1 (3 s of 30 s)"
std::string progress_line(const std::string& what, Duration since, Duration bound);

class Progress final {
 public:
  // Nothing is ever shown when `silent`, or when standard error is no terminal.
  Progress(std::string what, Duration bound, bool silent);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void run();

  std::string what_;
  Duration bound_;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace rnbd::cli
