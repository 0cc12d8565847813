#pragma once
// When a daemon last answered a command. What was seen of it before then is not to be shown any
// more: who was answered may know better. Written on the home loop, read on any thread.

#include <atomic>
#include <chrono>
#include <memory>

#include "base/loop.h"

namespace rnbd::daemon {

class LastCommand final {
 public:
  // What the command did is visible already; its answer is not yet sent.
  void answered(TimePoint now) { time_ = now.time_since_epoch().count(); }
  TimePoint time() const { return TimePoint(Duration(time_.load())); }

 private:
  std::atomic<Duration::rep> time_{TimePoint::min().time_since_epoch().count()};
};
// Shared by the attributes and the thread of their mount.
using LastCommandPtr = std::shared_ptr<const LastCommand>;

// How old the names in a directory may be: the many look-ups of one walk share what was seen. What
// an attribute reads is never old.
inline constexpr Duration kNamesAge = std::chrono::milliseconds(50);

}  // namespace rnbd::daemon
