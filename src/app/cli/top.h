#pragma once
// rnbd top: rates, latencies and states, again every second.

#include "app/cli/console.h"

namespace rnbd::cli {

ExitStatus run_top(const Command& command);

}  // namespace rnbd::cli
