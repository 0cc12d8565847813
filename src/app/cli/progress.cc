#include "app/cli/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

namespace rnbd::cli {

std::string progress_line(const std::string& what, Duration since, Duration bound) {
  return fmt::format("{} ({} s of {} s)", what,
                     std::chrono::duration_cast<std::chrono::seconds>(since).count(),
                     std::chrono::ceil<std::chrono::seconds>(bound).count());
}

Progress::Progress(std::string what, Duration bound, bool silent)
    : what_(std::move(what)), bound_(bound) {
  if (!silent && isatty(STDERR_FILENO) != 0) thread_ = std::thread([this] { run(); });
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    over_ = true;
  }
  ended_.notify_one();
  thread_.join();
}

void Progress::run() {
  const auto start = std::chrono::steady_clock::now();
  bool shown = false;
  std::unique_lock lock(mutex_);
  while (!ended_.wait_for(lock, std::chrono::seconds(1), [this] { return over_; })) {
    const auto since = std::chrono::steady_clock::now() - start;
    std::fprintf(stderr, "\r\033[K%s", progress_line(what_, since, bound_).c_str());
    std::fflush(stderr);
    shown = true;
  }
  if (shown) std::fprintf(stderr, "\r\033[K");
}

}  // namespace rnbd::cli
