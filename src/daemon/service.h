#pragma once
// A daemon as a process: signals, readiness told to the service manager, limits of the system.

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"
#include "daemon/admin/problem.h"

namespace rnbd::daemon {

// SIGTERM and SIGINT as something to wait for, and SIGHUP, which means "read the configuration
// again" unless we were started from a terminal, which is gone then, and SIGPWR, which means that
// the machine goes down. Create in main before any thread starts: they inherit the mask.
class ExitSignals final {
 public:
  ExitSignals();
  // Until one says that we shall end: its name. The others are called as often as they come.
  std::string_view wait(
      const std::function<void()>& reload, const std::function<void()>& power_down = [] {});

 private:
  UniqueFd fd_;
  bool terminal_ = false;  // we have one
};

// Tells the service manager that the configuration is read again, and of which of the keys that
// changed do not count before the next start: all that are not `live`.
void begin_reload();
void end_reload(const std::vector<std::string>& changed, std::span<const std::string_view> live);

LogLevel parse_log_level(std::string_view level);
// Log lines of `program` from this level on: debug, info, warning, error.
void start_log(const std::string& program, std::string_view level);

// "READY=1", "STOPPING=1", "STATUS=…" to the service manager, if there is one ($NOTIFY_SOCKET).
void notify_service_manager(std::string_view state);

// As many open files as the hard limit allows.
void raise_file_limit();

// What a daemon under a block device needs so that it can write out pages while memory is short: it
// is marked as an I/O flusher and, by `lock_memory` (auto, on, off), kept in memory. Never fatal:
// logs what the system refuses if it was asked for.
void survive_memory_pressure(std::string_view lock_memory);

// "rnbd: what (hint)" on standard error; the exit status.
int report(std::string_view program, const Problem& problem);

}  // namespace rnbd::daemon
