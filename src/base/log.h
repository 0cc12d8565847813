#pragma once
// Log lines: "program: level: message". Where an error is found it is logged, once; callers pass it
// up. Never on the data path. Any thread.

#include <fmt/core.h>

#include <string>
#include <string_view>

namespace rnbd {

enum class LogLevel { debug, info, warning, error, off };

struct LogOptions {
  std::string program = "rnbd";
  LogLevel level = LogLevel::info;
};
void set_log_options(const LogOptions& options);
void set_log_level(LogLevel level) noexcept;  // at any time
bool log_enabled(LogLevel level) noexcept;
void log_line(LogLevel level, fmt::string_view format, fmt::format_args args);

// A peer's string made safe to print: control bytes become \xNN, length is bounded (safety goal
// S17).
std::string printable(std::string_view text, std::size_t most = 256);

template <class... A>
void log_debug(fmt::format_string<A...> format, A&&... args) {
  if (log_enabled(LogLevel::debug))
    log_line(LogLevel::debug, format, fmt::make_format_args(args...));
}
template <class... A>
void log_info(fmt::format_string<A...> format, A&&... args) {
  if (log_enabled(LogLevel::info)) log_line(LogLevel::info, format, fmt::make_format_args(args...));
}
template <class... A>
void log_warning(fmt::format_string<A...> format, A&&... args) {
  if (log_enabled(LogLevel::warning))
    log_line(LogLevel::warning, format, fmt::make_format_args(args...));
}
template <class... A>
void log_error(fmt::format_string<A...> format, A&&... args) {
  if (log_enabled(LogLevel::error))
    log_line(LogLevel::error, format, fmt::make_format_args(args...));
}

}  // namespace rnbd
