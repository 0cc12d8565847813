#pragma once
// Sockets a service manager opened for us and handed over: $LISTEN_FDS, as sd_listen_fds(3) has it.

#include <string>

#include "base/unique_fd.h"

namespace rnbd::daemon {

// The listening Unix stream socket of this path, if it was handed over; it is taken once. It is not
// ours: its file stays when we end.
UniqueFd take_activated_socket(const std::string& path);

}  // namespace rnbd::daemon
