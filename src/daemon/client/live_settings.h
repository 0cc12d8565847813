#pragma once
// What can be set while volumes are in use, from words and back. Pure.

#include <optional>
#include <string>
#include <string_view>

#include "base/loop.h"
#include "daemon/admin/problem.h"
#include "rtrs/client/session.h"

namespace rnbd::daemon {

// What a device does with requests while its server is away: `fail_now` ends the waiting, else they
// are held for `timeout`; 0: for ever.
struct Hold {
  bool fail_now = false;
  Duration timeout{};
  bool operator==(const Hold&) const = default;
};
// "forever", "fail", or a time. No time of 0: it could be taken for either.
Outcome<Hold> parse_hold(std::string_view text);
std::string hold_text(Duration timeout);  // "forever", "10s"

Outcome<rtrs::PathPolicy> parse_path_policy(std::string_view text);  // also "RR", "MI", "ML"
const char* path_policy_name(rtrs::PathPolicy policy);
Outcome<int> parse_reconnect_attempts(std::string_view text);  // -1: for ever

const char* failover_name(rtrs::client::Failover failover);

}  // namespace rnbd::daemon
