#pragma once
// map and unmap.

#include "app/cli/console.h"
#include "app/cli/daemons.h"

namespace rnbd::cli {

ExitStatus run_map(const Command& command);
ExitStatus run_unmap(const Command& command);

// Asks for a mapping; with `wait` again while the server or the daemon is away, until the time of
// the command is over. Shows progress.
daemon::Outcome<daemon::AdminResponse> map_one(const Command& command, const Daemons& daemons,
                                               const daemon::AdminRequest& request);

}  // namespace rnbd::cli
