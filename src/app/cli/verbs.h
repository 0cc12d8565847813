#pragma once
// Doing what the command line says: asks the daemons, prints, returns the exit status.

#include <string>
#include <vector>

#include "app/cli/command.h"
#include "app/cli/console.h"

namespace rnbd::cli {

// `program` is how we were called: as rnbd-compat the exit status is the old tool's.
int run_command_line(const std::vector<std::string>& words, const std::string& program);

// The text of "rnbd help [topic]"; empty for an unknown topic.
std::string help_text(const std::string& topic);
std::vector<std::string_view> help_topics();

// rnbd demo: the main job end to end on this machine.
ExitStatus run_demo(const Command& command);

}  // namespace rnbd::cli
