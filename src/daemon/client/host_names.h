#pragma once
// From host:name in a map request to the addresses of that host. Blocks in getaddrinfo: not on a
// reactor.

#include <vector>

#include "daemon/admin/map_request.h"

namespace rnbd::daemon {

bool needs_resolving(const MapRequest& request);
// The request's paths with every host:name replaced by an address, as ip:…. Several, to be tried in
// turn, where a name has several addresses; never empty.
Outcome<std::vector<std::vector<PathSpec>>> resolve_host_names(const MapRequest& request);

}  // namespace rnbd::daemon
