#pragma once
// The way to an address, looked at from here: which interface it takes, and whether anybody
// listens. Blocking, with a bound.

#include <string>
#include <string_view>

#include "base/loop.h"
#include "daemon/admin/problem.h"

namespace rnbd::cli {

struct Endpoint {
  std::string host;
  std::string port;
};
// "10.0.0.1", "[fd00::1]:1234", "host:99", "ip:10.0.0.1"; empty host: nothing to try (unix:, gid:).
Endpoint endpoint_of(std::string_view text, std::uint16_t port);

// The interface packets to it leave by; empty when there is no route.
std::string interface_to(const Endpoint& endpoint);
// Connects over TCP and hangs up.
daemon::Outcome<void> try_connect(const Endpoint& endpoint, Duration timeout);

}  // namespace rnbd::cli
