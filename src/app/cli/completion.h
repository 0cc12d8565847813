#pragma once
// Completion scripts of the shells, written from the grammar's tables; names of devices, sessions
// and paths are asked of the daemons when they are wanted. Pure.

#include <string>
#include <string_view>

#include "app/cli/console.h"

namespace rnbd::cli {

// For bash, zsh or fish; empty for another shell.
std::string completion_script(std::string_view shell);
ExitStatus run_completion(const Command& command);

}  // namespace rnbd::cli
