#include "app/cli/change.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::Outcome;
using daemon::usage_problem;

using Words = std::vector<std::string>;

Outcome<daemon::PathSpec> parse_new_path(std::string_view word, std::uint16_t port) {
  if (word.starts_with("path=")) word.remove_prefix(5);
  auto path = daemon::parse_path_spec(word, port);
  for (std::string_view prefix : {"ip:", "host:"}) {
    if (path) break;
    auto with_prefix = daemon::parse_path_spec(std::string(prefix) + std::string(word), port);
    if (with_prefix) path = with_prefix;
  }
  return path;
}

Outcome<AdminRequest> parse_add(const Words& all) {
  constexpr std::string_view kPort = "dest_port=";
  const char* usage = "rnbd add path SESSION [SRC@]DST [dest_port=N]";
  AdminRequest request{.command = AdminCommand::add_path};
  std::uint16_t port = 0;  // as the session's first path
  Words words;
  for (const std::string& word : all) {
    if (!word.starts_with(kPort)) {
      words.push_back(word);
      continue;
    }
    auto parsed = daemon::parse_dest_port(std::string_view(word).substr(kPort.size()), 1);
    if (!parsed) return tl::unexpected(parsed.error());
    port = *parsed;
  }
  if (words.empty()) return usage_problem("add a path to which session?", usage);
  if (words.size() == 1)
    return usage_problem(fmt::format("add which path to '{}'?", printable(words[0])), usage);
  if (words.size() > 2)
    return usage_problem(fmt::format("'{}' after the path is not understood", printable(words[2])),
                         "one path at a time");
  auto path = parse_new_path(words[1], port);
  if (!path) return tl::unexpected(path.error());
  request.target = words[0];
  request.new_path = std::move(*path);
  return request;
}

// SESSION PATH, SESSION, or PATH.
Outcome<AdminRequest> parse_paths(AdminCommand command, std::string_view verb, const Words& words) {
  if (words.empty())
    return usage_problem(fmt::format("{} what?", verb),
                         command == AdminCommand::remove_path
                             ? "rnbd remove path SESSION PATH; see 'rnbd list paths'"
                             : fmt::format("rnbd {} SESSION or PATH; see 'rnbd list paths'", verb));
  if (words.size() > 2)
    return usage_problem(fmt::format("'{}' is not understood", printable(words[2])),
                         "one path at a time");
  AdminRequest request{.command = command, .target = words[0]};
  if (words.size() == 2) request.path = words[1];
  return request;
}

// DEVICE [SIZE [UNIT]]
Outcome<AdminRequest> parse_resize(const Words& words) {
  const char* usage = "rnbd resize DEVICE [SIZE[B|K|M|G|T|P|E]]";
  if (words.empty()) return usage_problem("resize what?", usage);
  AdminRequest request{.command = AdminCommand::resize, .target = words[0]};
  if (words.size() == 1) return request;  // what the server has
  const std::string size = words[1] + (words.size() > 2 ? words[2] : "");
  const auto bytes = daemon::parse_size(size);
  if (!bytes || *bytes == 0 || words.size() > 3)
    return usage_problem(fmt::format("'{}' is not a size", printable(size)), usage);
  request.size = *bytes;
  return request;
}

// One device, volume or what else the daemon knows by that name.
Outcome<AdminRequest> parse_one(AdminCommand command, std::string_view verb, const Words& words) {
  if (words.empty())
    return usage_problem(fmt::format("{} what?", verb), fmt::format("rnbd {} DEVICE", verb));
  if (words.size() > 1)
    return usage_problem(fmt::format("'{}' is not understood", printable(words[1])),
                         "one device at a time");
  return AdminRequest{.command = command, .target = words[0]};
}

// VOLUME [[from] SESSION]
Outcome<AdminRequest> parse_close(const Words& all) {
  Words words = all;
  if (words.size() > 2 && words[1] == "from") words.erase(words.begin() + 1);
  const char* usage = "rnbd server close VOLUME [SESSION]; see 'rnbd server list'";
  if (words.empty()) return usage_problem("close what?", usage);
  if (words.size() > 2)
    return usage_problem(fmt::format("'{}' is not understood", printable(words[2])), usage);
  AdminRequest request{.command = AdminCommand::close, .target = words[0]};
  if (words.size() == 2) request.session = words[1];
  return request;
}

// SESSION [PATH] [COUNTERS], or PATH [COUNTERS]
Outcome<AdminRequest> parse_reset(const Words& all) {
  constexpr std::array<std::string_view, 5> kCounters{"all", "rdma", "reconnects",
                                                      "cpu_migration_from", "cpu_migration_to"};
  Words words = all;
  AdminRequest request{.command = AdminCommand::reset, .counters = "all"};
  if (words.size() > 1 &&
      std::find(kCounters.begin(), kCounters.end(), words.back()) != kCounters.end()) {
    request.counters = words.back();
    words.pop_back();
  }
  if (words.empty())
    return usage_problem("reset the counters of what?",
                         "rnbd reset SESSION [PATH] [" + daemon::join(kCounters, "|") + "]");
  if (words.size() > 2)
    return usage_problem(fmt::format("'{}' is not understood", printable(words[2])),
                         daemon::suggestion(words[2], kCounters));
  request.target = words[0];
  if (words.size() == 2) request.path = words[1];
  return request;
}

Outcome<AdminRequest> parse_set(const Command& command) {
  const char* usage =
      "rnbd set DEVICE hold=forever|fail|TIME, or rnbd set SESSION policy=NAME "
      "max_reconnect_attempts=N";
  const Words& words = command.words;
  AdminRequest request{.command = AdminCommand::set};
  if (words.empty()) return usage_problem("set what?", usage);
  request.target = words[0];
  if (words.size() == 1)
    return usage_problem(fmt::format("set what of '{}'?", printable(words[0])), usage);
  for (std::size_t i = 1; i < words.size(); ++i) {
    const std::size_t equals = words[i].find('=');
    const bool whole = equals != std::string::npos && equals != 0 && equals + 1 != words[i].size();
    if (!whole) return usage_problem(fmt::format("'{}' is no setting", printable(words[i])), usage);
    request.settings.push_back({words[i].substr(0, equals), words[i].substr(equals + 1)});
  }
  return request;
}

std::string paths_of(const daemon::SessionView& session) {
  std::string text;
  for (const auto& path : session.paths)
    text +=
        fmt::format("path {} of session {} is {}\n",
                    printable(path.name.empty() ? path.destination : path.name),
                    printable(session.name), path.state == "closed" ? "disconnected" : path.state);
  return text;
}

std::string settings_now(const daemon::AdminResponse& response) {
  std::string text;
  for (const auto& device : response.devices)
    text += fmt::format("{} is {}, hold={}\n", device.name, device.state,
                        device.hold_us == 0
                            ? "forever"
                            : daemon::format_duration(std::chrono::microseconds(device.hold_us)));
  for (const auto& session : response.sessions)
    text += fmt::format("session {}: policy={} max_reconnect_attempts={}\n",
                        printable(session.name), session.policy, session.max_reconnect_attempts);
  return text;
}

std::string settings_of(const AdminRequest& request) {
  std::string text;
  for (const auto& setting : request.settings)
    text += (text.empty() ? "" : " ") + printable(setting.name) + "=" + printable(setting.value);
  return text;
}

}  // namespace

namespace {

Outcome<AdminRequest> parse_words(const Command& command) {
  switch (command.verb) {
    case Verb::add:
      return parse_add(command.words);
    case Verb::remove:
      return parse_paths(AdminCommand::remove_path, "remove", command.words);
    case Verb::disconnect:
      return parse_paths(AdminCommand::disconnect, "disconnect", command.words);
    case Verb::reconnect:
      return parse_paths(AdminCommand::reconnect, "reconnect", command.words);
    case Verb::resize:
      return parse_resize(command.words);
    case Verb::remap:
      return parse_one(AdminCommand::remap, "remap", command.words);
    case Verb::recover:
      // What a session or a path has to recover from is being disconnected.
      if (command.target == Target::session || command.target == Target::path)
        return parse_paths(AdminCommand::reconnect, "recover", command.words);
      return parse_one(AdminCommand::recover, "recover", command.words);
    case Verb::close:
      return parse_close(command.words);
    case Verb::reset:
      return parse_reset(command.words);
    default:
      return parse_set(command);
  }
}

}  // namespace

bool is_change(Verb verb) {
  switch (verb) {
    case Verb::add:
    case Verb::remove:
    case Verb::disconnect:
    case Verb::reconnect:
    case Verb::set:
    case Verb::resize:
    case Verb::remap:
    case Verb::recover:
    case Verb::close:
    case Verb::reset:
      return true;
    default:
      return false;
  }
}

Outcome<AdminRequest> parse_change(const Command& command) {
  auto request = parse_words(command);
  if (request) request->force = command.force;
  return request;
}

std::string intent(const AdminRequest& request) {
  const std::string target = printable(request.target);
  const std::string path = request.path.empty() ? "" : " " + printable(request.path);
  switch (request.command) {
    case AdminCommand::add_path:
      return fmt::format("add the path {} to {}", printable(to_text(request.new_path)), target);
    case AdminCommand::remove_path:
      return fmt::format("remove the path {}{}", target, path);
    case AdminCommand::disconnect:
      return fmt::format("disconnect {}{}", target, path);
    case AdminCommand::reconnect:
      return fmt::format("reconnect {}{}", target, path);
    case AdminCommand::resize:
      return fmt::format(
          "resize {} to {}", target,
          request.size == 0 ? "what its server has" : daemon::format_size(request.size));
    case AdminCommand::remap:
      return fmt::format("open {} anew", target);
    case AdminCommand::recover:
      return fmt::format("recover {}", target);
    case AdminCommand::close:
      return fmt::format("take {} from {}", target,
                         request.session.empty() ? "every client" : printable(request.session));
    case AdminCommand::reset:
      return fmt::format("reset the counters ({}) of {}{}", request.counters, target, path);
    default:
      return fmt::format("set {} {}", target, settings_of(request));
  }
}

std::string outcome(const AdminRequest& request, const daemon::AdminResponse& response) {
  std::string text;
  switch (request.command) {
    case AdminCommand::set:
      return settings_now(response);
    case AdminCommand::resize:
    case AdminCommand::remap:
    case AdminCommand::recover:
      for (const auto& device : response.devices)
        text += fmt::format("{} is {}, {}\n", printable(device.name), device.state,
                            daemon::human_size(device.size));
      for (const auto& open : response.opens)
        text += fmt::format("{} of session {}: {}\n", printable(open.volume),
                            printable(open.session), daemon::human_size(open.size));
      break;
    case AdminCommand::close:
      for (const auto& open : response.opens)
        text += fmt::format("{} is taken from session {}\n", printable(open.volume),
                            printable(open.session));
      break;
    case AdminCommand::reset:
      return fmt::format("the counters of {} are reset\n", printable(request.target));
    default:
      break;
  }
  const bool paths =
      request.command == AdminCommand::add_path || request.command == AdminCommand::remove_path ||
      request.command == AdminCommand::disconnect || request.command == AdminCommand::reconnect;
  for (const auto& session : response.sessions)
    if (paths) text += paths_of(session);
  if (!text.empty()) return text;
  return fmt::format("{}: done\n", printable(request.target));
}

}  // namespace rnbd::cli
