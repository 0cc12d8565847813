// Settings of what is in use.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/event.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/client/live_settings.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

constexpr std::string_view kHold = "hold";
constexpr std::string_view kPolicy = "policy";
constexpr std::string_view kAttempts = "max_reconnect_attempts";
constexpr std::array<std::string_view, 3> kSettings{kHold, kPolicy, kAttempts};

}  // namespace

void Manager::set(const std::string& target, const std::vector<Setting>& settings, bool force,
                  const ManagerReply& reply) {
  if (settings.empty())
    return reply(failure({ProblemCode::usage, "set what?", "one of: " + join(kSettings), EINVAL}));
  for (const Setting& setting : settings) {
    if (std::find(kSettings.begin(), kSettings.end(), setting.name) == kSettings.end())
      return reply(
          failure({ProblemCode::usage, fmt::format("unknown setting '{}'", printable(setting.name)),
                   suggestion(setting.name, kSettings), EINVAL}));
  }
  const auto of_device =
      std::count_if(settings.begin(), settings.end(),
                    [](const Setting& setting) { return setting.name == kHold; });
  if (of_device == 0) return set_on_session(target, settings, reply);
  if (of_device == 1 && settings.size() == 1)
    return set_on_device(target, settings[0], force, reply);
  reply(failure({ProblemCode::usage, "hold is set on a device, and alone",
                 "policy and max_reconnect_attempts are set on its session", EINVAL}));
}

void Manager::configure(const ClientConfig& config) {
  config_ = config;
  for (const auto& mapping : mappings_)
    if (mapping->state == State::ready && !mapping->hold)
      mapping->device->set_hold_timeout(config_.hold_timeout);
}

void Manager::limit_holds(Duration longest) {
  const auto limited = [longest](Duration hold) {
    return hold == Duration(0) ? longest : std::min(hold, longest);
  };
  config_.hold_timeout = limited(config_.hold_timeout);
  for (const auto& mapping : mappings_)
    if (mapping->device != nullptr)
      mapping->device->set_hold_timeout(limited(mapping->device->hold_timeout()));
}

void Manager::set_on_device(const std::string& target, const Setting& setting, bool force,
                            const ManagerReply& reply) {
  auto hold = parse_hold(setting.value);
  if (!hold) return reply(failure(hold.error()));
  auto found = find_target(target, "");
  if (!found && sessions_.contains(target))
    return reply(
        failure({ProblemCode::usage,
                 fmt::format("hold is set on a device, and '{}' is a session", printable(target)),
                 "'rnbd list' shows its devices", EINVAL}));
  if (!found) return reply(failure(found.error()));
  Mapping& mapping = **found;
  if (mapping.state != State::ready)
    return reply(failure({ProblemCode::busy,
                          fmt::format("'{}' is just being mapped or unmapped", printable(target)),
                          "try again", EBUSY}));
  client::RemoteDevice& device = *mapping.device;
  if (hold->fail_now && device.state() == client::DeviceState::open && !force)
    return reply(failure({ProblemCode::busy,
                          fmt::format("'{}' does not wait: its server is there", printable(target)),
                          "--force fails it all the same", EBUSY}));
  log_event({.name = "setting_changed",
             .volume = mapping.request.device_path,
             .session = mapping.request.session,
             .device = fmt::format("rnbd{}", mapping.number)},
            "hold={}", printable(setting.value));
  if (hold->fail_now) {
    mapping.session->client->fail_device(device);
  } else {
    device.set_hold_timeout(hold->timeout);
    mapping.hold = hold->timeout;
    remember(mapping);
  }
  save();
  AdminResponse response;
  response.devices.push_back(view_of(mapping));
  reply(std::move(response));
}

void Manager::set_on_session(const std::string& target, const std::vector<Setting>& settings,
                             const ManagerReply& reply) {
  auto found = find_session(target);
  if (!found) {
    auto device = find_target(target, "");
    if (!device) return reply(failure(found.error()));
    return reply(failure({ProblemCode::usage,
                          fmt::format("{} is set on a session, and '{}' is a device",
                                      settings[0].name, printable(target)),
                          fmt::format("its session is '{}'", printable((*device)->request.session)),
                          EINVAL}));
  }
  Session& session = **found;
  rtrs::PathPolicy policy = session.policy;
  int attempts = session.max_reconnect_attempts;
  bool policy_set = session.policy_set;
  bool attempts_set = session.attempts_set;
  for (const Setting& setting : settings) {
    if (setting.name == kPolicy) {
      auto parsed = parse_path_policy(setting.value);
      if (!parsed) return reply(failure(parsed.error()));
      policy = *parsed;
      policy_set = true;
    } else {
      auto parsed = parse_reconnect_attempts(setting.value);
      if (!parsed) return reply(failure(parsed.error()));
      attempts = *parsed;
      attempts_set = true;
    }
  }
  log_event({.name = "setting_changed", .session = session.name},
            "policy={} max_reconnect_attempts={}", path_policy_name(policy), attempts);
  session.policy = policy;
  session.policy_set = policy_set;
  session.max_reconnect_attempts = attempts;
  session.attempts_set = attempts_set;
  session.client->session()->set_policy(policy);
  session.client->session()->set_max_reconnect_attempts(attempts);
  remember(session);
  save();
  AdminResponse response;
  response.sessions.push_back(view_of(session));
  reply(std::move(response));
}

}  // namespace rnbd::daemon
