#pragma once
// rnbd apply, rnbd diff: what is mapped and what rnbdtab says.

#include "app/cli/console.h"

namespace rnbd::cli {

ExitStatus run_apply(const Command& command);

}  // namespace rnbd::cli
