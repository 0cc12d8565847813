#pragma once
// Writes to attributes: the text becomes a command of the daemon's, and the command's answer the
// errno of the write, both as the kernel's modules have it. The one parser of what is written, by
// way of the FUSE tree as of the admin socket; the bytes may come from anyone. Pure.

#include <optional>
#include <string_view>

#include "daemon/tree/tree.h"

namespace rnbd::daemon {

inline constexpr std::size_t kWriteMax = 4096;  // bytes of one write; more is refused whole

// The command, or nothing where there is nothing to do. `cpus` bounds nr_poll_queues.
Outcome<std::optional<AdminRequest>> request_of(const Node& node, std::string_view text,
                                                unsigned cpus);
// What became of the write: nothing, or why not, with the errno of the attribute.
std::optional<Problem> verdict(const Node& node, const AdminResponse& response);

}  // namespace rnbd::daemon
