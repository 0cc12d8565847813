#include "daemon/service.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "base/log.h"
#include "daemon/admin/runtime.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57  // linux/prctl.h since Linux 5.6
#endif

namespace rnbd::daemon {
namespace {

// Locking is asked for only where it cannot make allocations fail later.
bool limit_allows_locking() {
  rlimit limit{};
  return geteuid() == 0 && (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) &&
         (limit.rlim_cur == RLIM_INFINITY);
}

}  // namespace

ExitSignals::ExitSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  sigaddset(&set, SIGPWR);
  terminal_ = isatty(STDIN_FILENO) != 0;
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  fd_ = UniqueFd(signalfd(-1, &set, SFD_CLOEXEC));
  std::signal(SIGPIPE, SIG_IGN);
}

std::string_view ExitSignals::wait(const std::function<void()>& reload,
                                   const std::function<void()>& power_down) {
  for (;;) {
    signalfd_siginfo info{};
    if (read(fd_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) {
      if (errno == EINTR) continue;
      return "no signal";
    }
    if (info.ssi_signo == SIGPWR) {
      power_down();
      continue;
    }
    if (info.ssi_signo != SIGHUP) return info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT";
    if (terminal_) return "SIGHUP";
    reload();
  }
}

void begin_reload() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto microseconds = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
                            static_cast<std::uint64_t>(now.tv_nsec) / 1000;
  notify_service_manager(fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds));
}

void end_reload(const std::vector<std::string>& changed, std::span<const std::string_view> live) {
  std::string now, later;
  for (const std::string& key : changed) {
    std::string& list = std::find(live.begin(), live.end(), key) != live.end() ? now : later;
    list += (list.empty() ? "" : ", ") + key;
  }
  log_info("configuration read again: {}", changed.empty() ? "nothing to change"
                                           : now.empty()   ? "nothing that can change now"
                                                           : now);
  if (!later.empty()) log_warning("counts from the next start on: {}", later);
  notify_service_manager("READY=1");
}

LogLevel parse_log_level(std::string_view level) {
  if (level == "debug") return LogLevel::debug;
  if (level == "warning") return LogLevel::warning;
  return level == "error" ? LogLevel::error : LogLevel::info;
}

void start_log(const std::string& program, std::string_view level) {
  set_log_options({.program = program, .level = parse_log_level(level)});
}

void notify_service_manager(std::string_view state) {
  std::string path = environment("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract socket
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (fd)
    sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
           reinterpret_cast<sockaddr*>(&address), length);
}

void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

void survive_memory_pressure(std::string_view lock_memory) {
  if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) != 0)
    log_debug("not marked as an I/O flusher: {}", std::strerror(errno));
  bool wanted = lock_memory == "on" || (lock_memory == "auto" && limit_allows_locking());
  if (!wanted) return;
  // On fault: reserved memory that is never touched must not become real.
  if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0) return;
  log_warning("cannot lock memory: {} (raise LimitMEMLOCK, or set lock_memory = \"off\")",
              std::strerror(errno));
}

int report(std::string_view program, const Problem& problem) {
  std::fprintf(stderr, "%s\n", fmt::format("{}: {}", program, problem.text()).c_str());
  return static_cast<int>(problem.code);
}

}  // namespace rnbd::daemon
