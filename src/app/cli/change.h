#pragma once
// The words that change what is in use, as admin requests:
//   add path SESSION [SRC@]DST [dest_port=N]     remove path SESSION PATH
//   disconnect SESSION|PATH   reconnect SESSION|PATH   (or SESSION PATH)
//   set DEVICE hold=…         set SESSION policy=… max_reconnect_attempts=…
//   resize DEVICE [SIZE]   remap DEVICE   recover DEVICE|SESSION|PATH   close VOLUME [SESSION]
//   reset SESSION [PATH] [COUNTERS]
// and what is said when it is done. Pure.

#include <string>

#include "app/cli/command.h"
#include "daemon/admin/protocol.h"

namespace rnbd::cli {

bool is_change(Verb verb);
daemon::Outcome<daemon::AdminRequest> parse_change(const Command& command);
// "add the path ip:10.0.0.1 to a@b", after "would".
std::string intent(const daemon::AdminRequest& request);
// What the daemon says it did.
std::string outcome(const daemon::AdminRequest& request, const daemon::AdminResponse& response);

}  // namespace rnbd::cli
