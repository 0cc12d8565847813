#pragma once
// One question to a daemon over its admin socket, with a bound on the wait. Blocking; for command
// lines.

#include <optional>
#include <string>

#include "base/loop.h"
#include "base/unique_fd.h"
#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

// Problem: not_found when no daemon listens there, refused without permission, unreachable when it
// does not answer in time. What the daemon itself refuses comes back as AdminResponse::error.
Outcome<AdminResponse> ask_daemon(const std::string& socket_path, const AdminRequest& request,
                                  Duration timeout);

// What happens in a daemon, as it happens.
class EventStream final {
 public:
  static Outcome<EventStream> open(const std::string& socket_path, Duration timeout);
  // The next event, or nothing within `timeout`. Unreachable when the daemon has ended.
  Outcome<std::optional<EventView>> next(Duration timeout);
  // To be polled for reading; but first next() until it has nothing.
  int fd() const { return fd_.get(); }

 private:
  EventStream(std::string socket_path, UniqueFd fd, std::string input)
      : socket_path_(std::move(socket_path)), fd_(std::move(fd)), input_(std::move(input)) {}
  std::string socket_path_;
  UniqueFd fd_;
  std::string input_;  // read, not yet given out
};

}  // namespace rnbd::daemon
