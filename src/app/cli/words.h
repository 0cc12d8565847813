#pragma once
// The arguments that say what to map, and what is meant of what is mapped. Pure.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/admin/map_request.h"

namespace rnbd::cli {

// Whether there is a session of that name: it, then, is meant, and no host.
using IsSession = std::function<bool(std::string_view)>;

// The arguments of map: the kernel's words, a URI, or "<volume> from <server> [ro|rw|migration]",
// where a server is an address, a host name, either with ":<port>", or a session. A session not
// named is called <host>@<server>.
daemon::Outcome<daemon::MapRequest> parse_map_words(const std::vector<std::string>& words,
                                                    const std::string& host, int cpus,
                                                    const IsSession& is_session = {});

// The arguments of unmap and show: whatever mapped it, or a name of the device.
struct TargetWords {
  std::string target;
  std::string session;  // empty: any
  bool force = false;
};
daemon::Outcome<TargetWords> parse_target_words(const std::vector<std::string>& words,
                                                const std::string& host, int cpus,
                                                const IsSession& is_session = {});

}  // namespace rnbd::cli
