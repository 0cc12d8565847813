#pragma once
// One question to a daemon over its admin socket, with a bound on the wait. Blocking; for command
// lines.

#include <string>

#include "base/loop.h"
#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

// Problem: not_found when no daemon listens there, refused without permission, unreachable when it
// does not answer in time. What the daemon itself refuses comes back as AdminResponse::error.
Outcome<AdminResponse> ask_daemon(const std::string& socket_path, const AdminRequest& request,
                                  Duration timeout);

}  // namespace rnbd::daemon
