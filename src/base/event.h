#pragma once
// Things that happened: to a volume, a session, a path. One call tells of one in the log (a line
// "program: level: <volume@session> text key=value…", or an entry of the journal with fields), and
// to whoever subscribed. docs/events.md lists them all. What happens over and over is said a few
// times and then counted. Any thread; never on the data path.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/log.h"
#include "base/loop.h"

namespace rnbd {

struct EventInfo {
  const char* name;  // "path_lost": in docs/events.md, never renamed
  LogLevel level = LogLevel::info;
  // What it happened to, as far as it applies; made printable, so they may be a peer's words.
  std::string_view volume{}, session{}, path{}, device{};
  std::error_code error{};
  Duration since{-1};    // how long it had been otherwise; negative: nobody knows
  bool of_peer = false;  // a peer can cause it, as often as it likes and under any name
};

bool event_wanted(LogLevel level) noexcept;
void tell_event(const EventInfo& info, fmt::string_view format, fmt::format_args args);

template <class... A>
void log_event(const EventInfo& info, fmt::format_string<A...> format, A&&... args) {
  if (event_wanted(info.level)) tell_event(info, format, fmt::make_format_args(args...));
}

// As subscribers get it.
struct Event {
  std::chrono::system_clock::time_point time{};
  std::string name{};
  LogLevel level = LogLevel::info;
  std::string volume{}, session{}, path{}, device{};
  std::error_code error{};
  std::string text{};  // the whole line, without program and level
};

// Hears of every event while it lives, whatever the log's level. `call` runs on the thread of the
// event: it must neither block nor cause events.
class EventSubscription final {
 public:
  explicit EventSubscription(std::function<void(const Event&)> call);
  ~EventSubscription();
  EventSubscription(const EventSubscription&) = delete;
  EventSubscription& operator=(const EventSubscription&) = delete;

 private:
  std::function<void(const Event&)> call_;
};

// For EventAlarm. `wake` is called, on the thread of an event and under a lock, when counts of what
// was not said will be due; it returns at once and causes no event. One `owner` at a time, the
// last; without `wake` it is none any more.
void wake_for_counted_events(const void* owner, std::function<void(TimePoint due)> wake);
// Tells the counts that are due; when others will be.
std::optional<TimePoint> tell_counted_events();
// For tests: whose time it is; nullptr: the system's.
void set_event_clock(TimePoint (*now)());

// For tests: the line of an event, and the MESSAGE_ID its name has in the journal.
std::string event_line(const EventInfo& info, std::string_view text);
std::string event_message_id(std::string_view name);

}  // namespace rnbd
