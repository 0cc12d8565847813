#include "daemon/admin/event_view.h"

#include <fmt/chrono.h>

namespace rnbd::daemon {
namespace {

const char* level_name(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
    case LogLevel::off:
      return "error";
  }
  return "error";
}

// "2026-11-22T18:49:03.123Z"
std::string time_text(std::chrono::system_clock::time_point time) {
  const auto ms = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  const auto whole = std::chrono::floor<std::chrono::seconds>(ms);
  return fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(std::time_t{whole.count()}),
                     (ms - whole).count());
}

}  // namespace

EventView event_view(const Event& event) {
  return {.time = time_text(event.time),
          .level = level_name(event.level),
          .event = event.name,
          .device = event.device,
          .session = event.session,
          .volume = event.volume,
          .path = event.path,
          .text = event.text};
}

}  // namespace rnbd::daemon
