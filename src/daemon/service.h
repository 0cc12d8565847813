#pragma once
// A daemon as a process: signals, readiness told to the service manager, limits of the system.

#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "daemon/admin/problem.h"

namespace rnbd::daemon {

// SIGTERM and SIGINT as something to wait for. Create in main before any thread starts: they
// inherit the mask.
class ExitSignals final {
 public:
  ExitSignals();
  // The name of the signal that came.
  std::string_view wait();

 private:
  UniqueFd fd_;
};

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
