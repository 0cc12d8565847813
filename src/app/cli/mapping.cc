#include "app/cli/mapping.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "app/cli/describe.h"
#include "app/cli/progress.h"
#include "app/cli/words.h"
#include "base/log.h"
#include "daemon/admin/runtime.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::AdminResponse;
using daemon::Outcome;
using daemon::ProblemCode;

int cpus() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

// The sessions of the daemon, asked for when a name may be one; none where it does not answer.
IsSession sessions_of(const Daemons& daemons) {
  return [&daemons](std::string_view name) {
    const auto answer = daemons.ask({.command = AdminCommand::list});
    return answer && std::any_of(answer->sessions.begin(), answer->sessions.end(),
                                 [&](const auto& session) { return session.name == name; });
  };
}

std::string connecting(const daemon::MapRequest& map) {
  std::string text = fmt::format("mapping {}: ", printable(map.device_path));
  if (map.paths.empty()) return text + "opening it over session " + printable(map.session);
  text += "connecting to ";
  for (std::size_t i = 0; i < map.paths.size(); ++i)
    text += (i == 0 ? "" : ", ") + printable(map.paths[i].destination);
  return text;
}

}  // namespace

Outcome<AdminResponse> map_one(const Command& command, const Daemons& daemons,
                               const AdminRequest& request) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + command.timeout;
  Progress progress(connecting(request.map), command.timeout, command.quiet);
  for (;;) {
    auto answer = daemons.ask(request);
    const auto left = deadline - Clock::now();
    const bool again = command.wait && !answer && left > Duration(0) &&
                       answer.error().code == ProblemCode::unreachable;
    if (!again) return answer;
    std::this_thread::sleep_for(std::min<Duration>(left, std::chrono::seconds(1)));
  }
}

ExitStatus run_map(const Command& command) {
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  AdminRequest request{.command = AdminCommand::map, .exclusive = command.exclusive};
  auto map = parse_map_words(command.words, daemon::host_name(), cpus(), sessions_of(*daemons));
  if (!map) return tl::unexpected(map.error());
  request.map = std::move(*map);
  request.map.frontend = command.frontend;
  request.once = command.once;
  if (command.dry_run) {
    print("would map " + to_line(request.map) + "\n");
    return 0;
  }
  auto answer = map_one(command, *daemons, request);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->devices.empty())
    return daemon::problem({ProblemCode::failed, "the daemon mapped it but does not say as what",
                            "see 'rnbd list'", 0});
  auto table = device_table(answer->devices, command.fields);
  if (!table) return tl::unexpected(table.error());
  const std::string text = describe_use(answer->devices[0], answer->already);
  return print_answer(command, {std::move(*answer), {}, false}, {*table}, text);
}

ExitStatus run_unmap(const Command& command) {
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  auto target =
      parse_target_words(command.words, daemon::host_name(), cpus(), sessions_of(*daemons));
  if (!target) return tl::unexpected(target.error());
  AdminRequest request{.command = AdminCommand::unmap,
                       .target = target->target,
                       .session = target->session,
                       .force = command.force || target->force};
  if (command.dry_run) {
    print(fmt::format("would unmap {}{}\n", printable(request.target),
                      request.force ? " by force" : ""));
    return 0;
  }
  Progress progress(fmt::format("unmapping {}", printable(request.target)), command.timeout,
                    command.quiet);
  auto answer = daemons->ask(request);
  // The words that map it also unmap it, however often they are said.
  const bool gone = !answer && answer.error().code == ProblemCode::not_found &&
                    !target->session.empty() && !command.exclusive;
  if (!answer && !gone) return tl::unexpected(answer.error());
  if (gone) {
    AdminResponse nothing;
    nothing.already = true;
    return print_answer(command, {nothing, {}, false}, {},
                        fmt::format("{} is not mapped\n", printable(request.target)));
  }
  auto table = device_table(answer->devices, command.fields);
  if (!table) return tl::unexpected(table.error());
  const std::string name = answer->devices.empty() ? target->target : answer->devices[0].name;
  return print_answer(command, {std::move(*answer), {}, false}, {*table},
                      fmt::format("{} is unmapped\n", printable(name)));
}

}  // namespace rnbd::cli
