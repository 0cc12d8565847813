#include "app/cli/verbs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "app/cli/apply.h"
#include "app/cli/attr.h"
#include "app/cli/change.h"
#include "app/cli/completion.h"
#include "app/cli/daemons.h"
#include "app/cli/doctor.h"
#include "app/cli/events.h"
#include "app/cli/list.h"
#include "app/cli/mapping.h"
#include "app/cli/progress.h"
#include "app/cli/top.h"
#include "base/log.h"
#include "daemon/admin/runtime.h"
#include "daemon/admin/suggest.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::AdminResponse;
using daemon::Outcome;
using daemon::Problem;
using daemon::ProblemCode;

ExitStatus run_ping(const Command& command) {
  if (!command.words.empty())
    return daemon::usage_problem("ping asks the daemon of this machine and takes no argument",
                                 "with --socket, another one");
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  auto answer = daemons->ask({.command = AdminCommand::ping});
  if (!answer) return tl::unexpected(answer.error());
  const std::string text =
      fmt::format("{} {} answers (pid {})\n", printable(answer->daemon.program),
                  printable(answer->daemon.version), answer->daemon.pid);
  return print_answer(command, {std::move(*answer), {}, false}, {}, text);
}

// Without a mode, a command both daemons have goes to the one that knows the name.
Outcome<Command> aimed(const Command& command, const Daemons& daemons, const std::string& target) {
  Command result = command;
  if (command.side != Side::any || info(command.verb).sides != kBoth) return result;
  auto both = daemons.ask_both({.command = AdminCommand::list});
  if (!both || !both->both) return result;
  const bool here = keep_named(both->first, {target, "", false});
  const bool there = keep_named(both->server, {target, "", false});
  if (here && there)
    return daemon::usage_problem(
        fmt::format("rnbd-client and rnbd-server both have a '{}'", printable(target)),
        fmt::format("rnbd client {0} ..., or rnbd server {0} ...", info(command.verb).name));
  if (there) result.side = Side::server;
  return result;
}

// A volume is taken from several clients at once only when that is said.
Outcome<void> check_close(const Daemons& daemons, AdminRequest& request) {
  if (!request.session.empty()) return {};
  auto answer = daemons.ask({.command = AdminCommand::list});
  if (!answer) return tl::unexpected(answer.error());
  std::string places;
  std::size_t count = 0;
  for (const auto& open : answer->opens) {
    if (open.volume + "@" + open.session == request.target) {
      request.target = open.volume;
      request.session = open.session;
      return {};
    }
    const bool volume = open.volume == request.target;
    if (volume || open.session == request.target)
      places += (count++ == 0 ? "" : ", ") + printable(volume ? open.session : open.volume);
  }
  if (count > 1 && !request.force)
    return daemon::problem(
        {ProblemCode::busy,
         fmt::format("closing '{}' takes {} opens: {}", printable(request.target), count, places),
         "name the volume and the session, or take all with --force", EBUSY});
  return {};
}

Outcome<Table> table_of(const Command& command, const AdminRequest& request,
                        const AdminResponse& answer) {
  if (!answer.devices.empty()) return device_table(answer.devices, command.fields);
  if (!answer.opens.empty()) return open_table(answer.opens, command.fields);
  const bool server = of_server(answer);
  if (request.command == AdminCommand::set)
    return session_table(answer.sessions, server, command.fields);
  return path_table(answer.sessions, server, command.fields);
}

ExitStatus run_change(const Command& said) {
  auto request = parse_change(said);
  if (!request) return tl::unexpected(request.error());
  auto daemons = Daemons::of(said);
  if (!daemons) return tl::unexpected(daemons.error());
  if (said.dry_run) {
    print(fmt::format("would {}\n", intent(*request)));
    return 0;
  }
  auto command = aimed(said, *daemons, request->target);
  if (!command) return tl::unexpected(command.error());
  daemons = Daemons::of(*command);
  if (!daemons) return tl::unexpected(daemons.error());
  if (request->command == AdminCommand::close)
    if (auto may = check_close(*daemons, *request); !may) return tl::unexpected(may.error());
  Progress progress(intent(*request), command->timeout, command->quiet);
  auto answer = daemons->ask(*request);
  if (!answer && request->command == AdminCommand::recover &&
      answer.error().code == ProblemCode::not_found && said.target == Target::any) {
    // No device: then a session or a path, which recovers by being connected.
    request->command = AdminCommand::reconnect;
    auto connected = daemons->ask(*request);
    if (connected) answer = std::move(connected);
  }
  if (!answer) return tl::unexpected(answer.error());
  auto table = table_of(*command, *request, *answer);
  if (!table) return tl::unexpected(table.error());
  const std::string text = outcome(*request, *answer);
  return print_answer(*command, {std::move(*answer), {}, false}, {*table}, text);
}

ExitStatus run_help(const Command& command) {
  std::string topic = command.words.empty() ? "" : command.words[0];
  if (const VerbInfo* verb = find_verb(topic)) topic = verb->name;
  const std::string text = help_text(topic);
  if (text.empty())
    return daemon::usage_problem(fmt::format("there is no help on '{}'", printable(topic)),
                                 daemon::suggestion(topic, help_topics()));
  print(text);
  return 0;
}

ExitStatus run_verb(const Command& command) {
  if (is_change(command.verb)) return run_change(command);
  switch (command.verb) {
    case Verb::map:
      return run_map(command);
    case Verb::unmap:
      return run_unmap(command);
    case Verb::list:
      return run_list(command);
    case Verb::show:
      return run_show(command);
    case Verb::tree:
      return run_tree(command);
    case Verb::dump:
      return run_dump(command);
    case Verb::attr:
      return run_attr(command);
    case Verb::top:
      return run_top(command);
    case Verb::events:
      return run_events(command);
    case Verb::doctor:
      return run_doctor(command);
    case Verb::apply:
    case Verb::diff:
      return run_apply(command);
    case Verb::ping:
      return run_ping(command);
    case Verb::completion:
      return run_completion(command);
    case Verb::demo:
      return run_demo(command);
    case Verb::version:
      print("rnbd " RNBD_VERSION "\n");
      return 0;
    default:
      return run_help(command);
  }
}

}  // namespace

int run_command_line(const std::vector<std::string>& words, const std::string& program) {
  const auto end = std::find(words.begin(), words.end(), "--");
  const bool as_errno =
      program.ends_with("rnbd-compat") || std::find(words.begin(), end, "--errno-exit") != end;
  auto command = parse_command(words, daemon::environment("RNBD_OUTPUT"));
  const ExitStatus done =
      command ? run_verb(*command) : ExitStatus(tl::unexpected(command.error()));
  if (done) return *done;
  std::fprintf(stderr, "rnbd: %s\n", done.error().text().c_str());
  return exit_status(done.error(), as_errno);
}

}  // namespace rnbd::cli
