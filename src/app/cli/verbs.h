#pragma once
// Doing what the command line says: asks the daemons, prints, returns the exit status.

#include <string>
#include <vector>

#include "app/cli/command.h"

namespace rnbd::cli {

int run_command_line(const std::vector<std::string>& words);

// The text of "rnbd help [topic]"; empty for an unknown topic.
std::string help_text(const std::string& topic);

// rnbd demo: the main job end to end on this machine.
int run_demo(const Command& command);

}  // namespace rnbd::cli
