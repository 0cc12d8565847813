#include "daemon/client/live_settings.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>

#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

constexpr std::int64_t kAttemptsMax = 9999;  // as the kernel
constexpr Duration kHoldMax = std::chrono::hours(24);

struct PolicyWord {
  std::string_view text;
  std::string_view letters;  // as in the kernel's mpath_policy
  rtrs::PathPolicy policy;
};
constexpr std::array kPolicies{
    PolicyWord{"round-robin", "RR", rtrs::PathPolicy::round_robin},
    PolicyWord{"min-inflight", "MI", rtrs::PathPolicy::min_inflight},
    PolicyWord{"min-latency", "ML", rtrs::PathPolicy::min_latency},
};

}  // namespace

Outcome<Hold> parse_hold(std::string_view text) {
  if (text == "forever") return Hold{};
  if (text == "fail") return Hold{.fail_now = true};
  const auto time = parse_duration(text);
  const bool right = time && *time > Duration{} && *time <= kHoldMax;
  if (!right)
    return usage_problem(fmt::format("hold cannot be '{}'", printable(text)),
                         "forever, a time up to 24h such as 30s, or fail: what is held fails now");
  return Hold{.timeout = *time};
}

std::string hold_text(Duration timeout) {
  return timeout == Duration{} ? "forever" : format_duration(timeout);
}

Outcome<rtrs::PathPolicy> parse_path_policy(std::string_view text) {
  std::array<std::string_view, kPolicies.size()> names;
  for (std::size_t i = 0; i < kPolicies.size(); ++i) {
    if (text == kPolicies[i].text || text == kPolicies[i].letters) return kPolicies[i].policy;
    names[i] = kPolicies[i].text;
  }
  return usage_problem(fmt::format("unknown policy '{}'", printable(text)),
                       suggestion(text, names));
}

const char* path_policy_name(rtrs::PathPolicy policy) {
  for (const PolicyWord& word : kPolicies)
    if (word.policy == policy) return word.text.data();
  return "";
}

Outcome<int> parse_reconnect_attempts(std::string_view text) {
  const auto number = parse_kernel_number(text);
  if (!number || *number < -1 || *number > kAttemptsMax)
    return usage_problem(fmt::format("max_reconnect_attempts cannot be '{}'", printable(text)),
                         fmt::format("0 to {}, or -1: for ever", kAttemptsMax));
  return static_cast<int>(*number);
}

const char* failover_name(rtrs::client::Failover failover) {
  return failover == rtrs::client::Failover::immediate ? "immediate" : "fenced";
}

}  // namespace rnbd::daemon
