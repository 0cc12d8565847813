#include "app/cli/plan.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::AdminResponse;
using daemon::DeviceView;
using daemon::MapRequest;
using daemon::Outcome;
using daemon::PathSpec;
using daemon::PathView;
using daemon::RnbdtabEntry;
using daemon::SessionView;
using daemon::Setting;

std::string session_of(const RnbdtabEntry& entry, const std::string& host) {
  if (!entry.map.session.empty() || entry.map.paths.empty()) return entry.map.session;
  return daemon::default_session_name(host, entry.map.paths[0]);
}

// Without the word for its transport: paths are told by their address alone.
std::string_view bare_address(std::string_view address) {
  for (const std::string_view word : {"ip:", "tcp:", "rdma:"})
    if (address.starts_with(word)) return address.substr(word.size());
  return address;
}

bool is_host_name(const std::string& destination) {
  if (destination.starts_with("host:")) return true;
  if (!destination.starts_with("tcp:") && !destination.starts_with("rdma:")) return false;
  in6_addr any{};
  const std::string address(bare_address(destination));
  return inet_pton(AF_INET, address.c_str(), &any) != 1 &&
         inet_pton(AF_INET6, address.c_str(), &any) != 1;
}

// A host's name may mean any address: what is there is taken for it.
bool same_path(const PathView& path, const PathSpec& spec) {
  const bool source =
      spec.source.empty() || path.name.empty() || path.name.starts_with(spec.source + "@");
  const bool meant = is_host_name(spec.destination) ||
                     bare_address(path.destination) == bare_address(spec.destination);
  return meant && path.port == spec.port && source;
}

std::string_view long_policy(std::string_view name) {
  return name == "RR" || name == "rr"   ? "round-robin"
         : name == "MI" || name == "mi" ? "min-inflight"
         : name == "ML" || name == "ml" ? "min-latency"
                                        : name;
}

bool same_hold(const std::string& hold, const DeviceView& device) {
  if (hold == "forever") return device.hold_us == 0;
  const auto time = daemon::parse_duration(hold);
  return time && std::chrono::duration_cast<std::chrono::microseconds>(*time).count() ==
                     static_cast<std::int64_t>(device.hold_us);
}

bool same_setting(const Setting& setting, const SessionView& session) {
  if (setting.name == "policy") return long_policy(setting.value) == session.policy;
  return setting.value == std::to_string(session.max_reconnect_attempts);
}

std::string text_of(const std::vector<Setting>& settings) {
  std::string text;
  for (const Setting& setting : settings)
    text += (text.empty() ? "" : " ") + setting.name + "=" + setting.value;
  return text;
}

class Planner {
 public:
  Planner(const daemon::Rnbdtab& table, const AdminResponse& now, const PlanOptions& options)
      : table_(table), now_(now), options_(options) {}

  std::vector<Step> make() {
    for (const RnbdtabEntry& entry : table_.entries)
      if (wanted(entry)) options_.unmap ? take_away(entry) : add_entry(entry);
    if (options_.prune) {
      for (const SessionView& session : now_.sessions) prune_paths(session);
      for (const DeviceView& device : now_.devices) prune_device(device);
    }
    return std::move(steps_);
  }

 private:
  bool named(const RnbdtabEntry& entry) const {
    return std::find(options_.names.begin(), options_.names.end(), entry.name) !=
           options_.names.end();
  }
  bool wanted(const RnbdtabEntry& entry) const { return options_.names.empty() || named(entry); }

  MapRequest map_of(const RnbdtabEntry& entry) const {
    MapRequest map = entry.map;
    map.session = session_of(entry, options_.host);
    return map;
  }
  const DeviceView* device_of(const MapRequest& map) const {
    for (const DeviceView& device : now_.devices)
      if (device.volume == map.device_path && device.session == map.session) return &device;
    return nullptr;
  }
  const SessionView* session_named(const std::string& name) const {
    for (const SessionView& session : now_.sessions)
      if (session.name == name) return &session;
    return nullptr;
  }

  Step& add(const RnbdtabEntry& entry, Step::Action action, std::string text) {
    Step step{action, entry.name, std::move(text)};
    step.nofail = entry.nofail;
    steps_.push_back(std::move(step));
    return steps_.back();
  }

  static AdminRequest map_request(const RnbdtabEntry& entry, const MapRequest& map) {
    AdminRequest request{.command = AdminCommand::map, .map = map};
    request.once = entry.once;
    return request;
  }
  // What is said of it beside the mapping itself.
  static void add_settings(Step& step, const RnbdtabEntry& entry, const MapRequest& map) {
    if (!entry.hold.empty())
      step.requests.push_back({.command = AdminCommand::set, .settings = {{"hold", entry.hold}}});
    if (!entry.session_settings.empty())
      step.requests.push_back({.command = AdminCommand::set,
                               .target = map.session,
                               .settings = entry.session_settings});
  }

  void add_entry(const RnbdtabEntry& entry) {
    const MapRequest map = map_of(entry);
    const DeviceView* device = device_of(map);
    if (device == nullptr) {
      if (entry.noauto && !named(entry)) return;
      Step& step = add(
          entry, Step::Action::map,
          fmt::format("map {} of session {}", printable(map.device_path), printable(map.session)));
      step.requests.push_back(map_request(entry, map));
      add_settings(step, entry, map);
      return;
    }
    const bool frontend =
        map.frontend.empty() || map.frontend == "auto" || map.frontend == device->frontend;
    if (device->access_mode != map.access_mode || !frontend)
      return map_anew(
          entry, map, *device,
          frontend ? fmt::format("is {}, should be {}", device->access_mode, map.access_mode)
                   : fmt::format("appears by {}, should by {}", device->frontend, map.frontend));
    change(entry, map, *device);
  }

  // As it was added: not what is only mapped by its name. The daemon refuses what is in use, and
  // names the users.
  void take_away(const RnbdtabEntry& entry) {
    const DeviceView* device = device_of(map_of(entry));
    if (device == nullptr || (entry.noauto && !named(entry))) return;
    Step step{Step::Action::unmap, entry.name,
              fmt::format("unmap {} ({})", device->name, printable(device->volume))};
    step.requests.push_back(
        {.command = AdminCommand::unmap, .target = device->name, .force = options_.force});
    steps_.push_back(std::move(step));
  }

  void map_anew(const RnbdtabEntry& entry, const MapRequest& map, const DeviceView& device,
                const std::string& why) {
    if (!options_.force) {
      add(entry, Step::Action::refused, fmt::format("{} {}", device.name, why)).hint =
          "that needs it to be unmapped and mapped anew: --force does so";
      return;
    }
    Step& step = add(entry, Step::Action::remap,
                     fmt::format("unmap {} and map it anew: it {}", device.name, why));
    step.requests.push_back(
        {.command = AdminCommand::unmap, .target = device.name, .force = device.users != 0});
    step.requests.push_back(map_request(entry, map));
    add_settings(step, entry, map);
  }

  // While it is in use.
  void change(const RnbdtabEntry& entry, const MapRequest& map, const DeviceView& device) {
    if (!entry.hold.empty() && !same_hold(entry.hold, device)) {
      Step& step =
          add(entry, Step::Action::set, fmt::format("set {} hold={}", device.name, entry.hold));
      step.requests.push_back({.command = AdminCommand::set,
                               .target = device.name,
                               .settings = {{"hold", entry.hold}}});
    }
    const SessionView* session = session_named(map.session);
    if (session == nullptr) return;
    std::vector<Setting> settings;
    for (const Setting& setting : entry.session_settings)
      if (!same_setting(setting, *session)) settings.push_back(setting);
    if (!settings.empty()) {
      Step& step = add(entry, Step::Action::set,
                       fmt::format("set {} {}", printable(session->name), text_of(settings)));
      step.requests.push_back(
          {.command = AdminCommand::set, .target = session->name, .settings = settings});
    }
    for (const PathSpec& path : map.paths) {
      const bool there = std::any_of(session->paths.begin(), session->paths.end(),
                                     [&](const PathView& p) { return same_path(p, path); });
      if (there) continue;
      Step& step = add(
          entry, Step::Action::add_path,
          fmt::format("add the path {} to {}", printable(to_text(path)), printable(session->name)));
      step.requests.push_back(
          {.command = AdminCommand::add_path, .target = session->name, .new_path = path});
    }
  }

  // Paths of a session of ours that no line has.
  void prune_paths(const SessionView& session) {
    std::vector<PathSpec> listed;
    for (const RnbdtabEntry& entry : table_.entries)
      if (session_of(entry, options_.host) == session.name)
        listed.insert(listed.end(), entry.map.paths.begin(), entry.map.paths.end());
    if (listed.empty()) return;
    for (const PathView& path : session.paths) {
      if (std::any_of(listed.begin(), listed.end(),
                      [&](const PathSpec& spec) { return same_path(path, spec); }))
        continue;
      const std::string name = path.name.empty() ? path.destination : path.name;
      Step step{Step::Action::remove_path, session.name,
                fmt::format("remove the path {} of {}", printable(name), printable(session.name))};
      step.requests.push_back(
          {.command = AdminCommand::remove_path, .target = session.name, .path = name});
      steps_.push_back(std::move(step));
    }
  }

  void prune_device(const DeviceView& device) {
    for (const RnbdtabEntry& entry : table_.entries)
      if (device_of(map_of(entry)) == &device) return;
    if (device.users != 0 && !options_.force) {
      Step step{
          Step::Action::refused, device.name,
          fmt::format("{} ({}) is not listed, but in use", device.name, printable(device.volume))};
      step.hint = "it stays; --force takes it away all the same";
      steps_.push_back(std::move(step));
      return;
    }
    Step step{Step::Action::unmap, device.name,
              fmt::format("unmap {} ({})", device.name, printable(device.volume))};
    step.requests.push_back(
        {.command = AdminCommand::unmap, .target = device.name, .force = device.users != 0});
    steps_.push_back(std::move(step));
  }

  const daemon::Rnbdtab& table_;
  const AdminResponse& now_;
  const PlanOptions& options_;
  std::vector<Step> steps_;
};

}  // namespace

const char* action_name(Step::Action action) {
  switch (action) {
    case Step::Action::map:
      return "map";
    case Step::Action::remap:
      return "remap";
    case Step::Action::set:
      return "set";
    case Step::Action::add_path:
      return "add_path";
    case Step::Action::remove_path:
      return "remove_path";
    case Step::Action::unmap:
      return "unmap";
    case Step::Action::refused:
      return "refused";
  }
  return "";
}

Outcome<std::vector<Step>> plan(const daemon::Rnbdtab& table, const AdminResponse& now,
                                const PlanOptions& options) {
  for (const std::string& name : options.names) {
    if (table.find(name) != nullptr) continue;
    std::vector<std::string_view> known;
    for (const RnbdtabEntry& entry : table.entries) known.push_back(entry.name);
    return daemon::problem(
        {daemon::ProblemCode::not_found, fmt::format("rnbdtab has no '{}'", printable(name)),
         known.empty() ? "it is empty" : daemon::suggestion(name, known), ENOENT});
  }
  return Planner(table, now, options).make();
}

}  // namespace rnbd::cli
