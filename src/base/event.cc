#include "base/event.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "base/event_limit.h"
#include "base/log_sink.h"

namespace rnbd {
namespace {

// Shared by all threads, as the log is: docs/decisions/0009.
struct Hub {
  std::mutex mutex;  // guards what follows
  EventLimit limit;
  std::vector<const std::function<void(const Event&)>*> subscribers;
  const void* waker = nullptr;
  std::function<void(TimePoint)> wake;
  std::optional<TimePoint> woken_for;
  TimePoint (*clock)() = nullptr;
  std::atomic<std::size_t> subscriber_count{0};
};

Hub& hub() {
  static Hub instance;
  return instance;
}

std::string subject(const EventInfo& info) {
  const std::string volume = printable(info.volume), session = printable(info.session);
  if (!volume.empty() && !session.empty()) return fmt::format("<{}@{}> ", volume, session);
  if (volume.empty() && session.empty()) return "";
  return fmt::format("<{}{}> ", volume, session);
}

std::string seconds(Duration time) {
  return fmt::format("{:.1f}s", std::chrono::duration<double>(time).count());
}

Event make_event(const EventInfo& info, std::string_view text) {
  return {.time = std::chrono::system_clock::now(),
          .name = info.name,
          .level = info.level,
          .volume = printable(info.volume),
          .session = printable(info.session),
          .path = printable(info.path),
          .device = printable(info.device),
          .error = info.error,
          .text = event_line(info, text)};
}

void say(Hub& to, const Event& event) {
  if (log_enabled(event.level)) {
    const std::string id = event_message_id(event.name);
    const std::string error = event.error ? std::to_string(to_errno(event.error)) : "";
    const std::array<JournalField, 7> fields{{{"MESSAGE_ID", id},
                                              {"RNBD_EVENT", event.name},
                                              {"RNBD_VOLUME", event.volume},
                                              {"RNBD_SESSION", event.session},
                                              {"RNBD_PATH", event.path},
                                              {"RNBD_DEVICE", event.device},
                                              {"ERRNO", error}}};
    log_entry(event.level, event.text, fields);
  }
  for (const auto* call : to.subscribers) (*call)(event);
}

TimePoint time_of(const Hub& hub) {
  return hub.clock != nullptr ? hub.clock() : TimePoint(std::chrono::steady_clock::now());
}

// The next that is due wakes; what has woken already, or would later, does not again.
void see_to_waking(Hub& to) {
  const auto due = to.limit.due();
  if (!due || !to.wake || (to.woken_for && *to.woken_for <= *due)) return;
  to.woken_for = due;
  to.wake(*due);
}

void say_unsaid(Hub& to, TimePoint now) {
  for (const EventLimit::Unsaid& what : to.limit.over(now)) {
    const std::string text = fmt::format("said {} times more", what.times);
    say(to, make_event({.name = "repeated"}, fmt::format("{}: {}", what.key, text)));
  }
}

// FNV-1a, twice from different starts.
std::uint64_t hash(std::string_view text, std::uint64_t start) {
  std::uint64_t value = start;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return value;
}

}  // namespace

bool event_wanted(LogLevel level) noexcept {
  return log_enabled(level) || hub().subscriber_count.load(std::memory_order_relaxed) != 0;
}

std::string event_line(const EventInfo& info, std::string_view text) {
  std::string line = subject(info);
  line += text;
  // A path that the text names needs no naming.
  if (const std::string path = printable(info.path); text.find(path) == std::string_view::npos)
    line += fmt::format(" path={}", path);
  if (info.error) {
    const int number = to_errno(info.error);
    const char* name = ::strerrorname_np(number);
    line += fmt::format(" err={} errno={}", name == nullptr ? "?" : name, number);
  }
  if (info.since >= Duration::zero()) line += fmt::format(" since={}", seconds(info.since));
  return line;
}

std::string event_message_id(std::string_view name) {
  return fmt::format("{:016x}{:016x}", hash(name, 0xcbf29ce484222325U),
                     hash(name, 0x84222325cbf29ce4U));
}

void tell_event(const EventInfo& info, fmt::string_view format, fmt::format_args args) {
  const Event event = make_event(info, fmt::vformat(format, args));
  Hub& to = hub();
  const std::scoped_lock lock(to.mutex);
  const TimePoint now = time_of(to);
  say_unsaid(to, now);
  const std::string key =
      fmt::format("{}{}{}{}", subject(info), event.name, event.path.empty() ? "" : " " + event.path,
                  event.device.empty() ? "" : " " + event.device);
  const bool now_said =
      info.of_peer ? to.limit.may_say_of_peer(event.name, key, now) : to.limit.may_say(key, now);
  if (now_said)
    say(to, event);
  else
    see_to_waking(to);
}

void wake_for_counted_events(const void* owner, std::function<void(TimePoint)> wake) {
  Hub& to = hub();
  const std::scoped_lock lock(to.mutex);
  if (!wake && to.waker != owner) return;  // another came after it
  to.waker = wake ? owner : nullptr;
  to.wake = std::move(wake);
  to.woken_for.reset();
  see_to_waking(to);
}

std::optional<TimePoint> tell_counted_events() {
  Hub& to = hub();
  const std::scoped_lock lock(to.mutex);
  say_unsaid(to, time_of(to));
  to.woken_for = to.limit.due();
  return to.woken_for;
}

void set_event_clock(TimePoint (*now)()) {
  Hub& to = hub();
  const std::scoped_lock lock(to.mutex);
  to.clock = now;
}

EventSubscription::EventSubscription(std::function<void(const Event&)> call)
    : call_(std::move(call)) {
  Hub& to = hub();
  const std::scoped_lock lock(to.mutex);
  to.subscribers.push_back(&call_);
  to.subscriber_count = to.subscribers.size();
}

EventSubscription::~EventSubscription() {
  Hub& to = hub();
  const std::scoped_lock lock(to.mutex);
  std::erase(to.subscribers, &call_);
  to.subscriber_count = to.subscribers.size();
}

}  // namespace rnbd
