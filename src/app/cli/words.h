#pragma once
// The arguments that say what to map, and what is meant of what is mapped. Pure.

#include <string>
#include <vector>

#include "daemon/admin/map_request.h"

namespace rnbd::cli {

// The arguments of map: the kernel's words, a URI, or "<volume> from <address> [ro|rw|migration]".
// A session not named is called <host>@<server>.
daemon::Outcome<daemon::MapRequest> parse_map_words(const std::vector<std::string>& words,
                                                    const std::string& host, int cpus);

// The arguments of unmap and show: whatever mapped it, or a name of the device.
struct TargetWords {
  std::string target;
  std::string session;  // empty: any
  bool force = false;
};
daemon::Outcome<TargetWords> parse_target_words(const std::vector<std::string>& words,
                                                const std::string& host, int cpus);

}  // namespace rnbd::cli
