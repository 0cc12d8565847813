#pragma once
// attr list|get|set: the attribute tree over the admin socket.

#include "app/cli/console.h"

namespace rnbd::cli {

// Which of list_attributes, read_attribute and write_attribute the words ask for. Pure.
daemon::Outcome<daemon::AdminRequest> parse_attr(const std::vector<std::string>& words);
// Whether the node is one of the server's tree, as far as its path tells.
bool is_server_node(std::string_view path);
ExitStatus run_attr(const Command& command);

}  // namespace rnbd::cli
