#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <vector>

#include "base/journal.h"
#include "base/log_sink.h"

namespace rnbd {
namespace {

std::atomic<LogLevel> g_level{LogLevel::info};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::off:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

std::shared_ptr<spdlog::logger> make_logger(const std::string& program) {
  auto logger =
      std::make_shared<spdlog::logger>(program, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%n: %l: %v");
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

// Shared: spdlog hands loggers out as shared_ptr, and set_log_options may replace it while others
// write.
std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = make_logger("rnbd");
  return instance;
}

const char* journal_priority(LogLevel level) {  // as syslog(3) counts
  switch (level) {
    case LogLevel::debug:
      return "7";
    case LogLevel::warning:
      return "4";
    case LogLevel::error:
      return "3";
    case LogLevel::info:
    case LogLevel::off:
      return "6";
  }
  return "6";
}

struct JournalSink {
  std::optional<Journal> journal;
  std::string program;
  std::atomic<std::uint64_t> lost{0};
};

// False when it belongs on stderr. A journal that is behind loses lines: to wait for it would stop
// I/O, perhaps that of the very disk it writes to.
bool to_journal(JournalSink& sink, LogLevel level, std::string_view text,
                std::span<const JournalField> fields) {
  std::vector<JournalField> entry{{"MESSAGE", text},
                                  {"PRIORITY", journal_priority(level)},
                                  {"SYSLOG_IDENTIFIER", sink.program}};
  entry.insert(entry.end(), fields.begin(), fields.end());
  const Journal::Sent sent = sink.journal->send(entry);
  if (sent == Journal::Sent::busy) sink.lost.fetch_add(1, std::memory_order_relaxed);
  if (sent != Journal::Sent::yes) return sent == Journal::Sent::busy;
  if (const std::uint64_t lost = sink.lost.exchange(0, std::memory_order_relaxed); lost != 0) {
    const std::string note = fmt::format("{} lines were lost: the journal was behind", lost);
    entry = {{"MESSAGE", note}, {"PRIORITY", "4"}, {"SYSLOG_IDENTIFIER", sink.program}};
    sink.journal->send(entry);
  }
  return true;
}

JournalSink& journal_sink() {
  static JournalSink instance;
  return instance;
}

}  // namespace

void set_log_options(const LogOptions& options) {
  logger() = make_logger(options.program);
  journal_sink().journal = Journal::of_this_process();
  journal_sink().program = options.program;
  g_level.store(options.level, std::memory_order_relaxed);
}

void set_log_level(LogLevel level) noexcept { g_level.store(level, std::memory_order_relaxed); }

bool log_enabled(LogLevel level) noexcept {
  return level >= g_level.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, fmt::string_view format, fmt::format_args args) {
  log_entry(level, fmt::vformat(format, args));
}

void log_entry(LogLevel level, std::string_view text, std::span<const JournalField> fields) {
  JournalSink& sink = journal_sink();
  if (sink.journal && to_journal(sink, level, text, fields)) return;
  logger()->log(to_spdlog(level), text);
}

std::string printable(std::string_view text, std::size_t most) {
  std::string out;
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", byte);
    }
  }
  if (text.size() > most) out += "...";
  return out;
}

}  // namespace rnbd
