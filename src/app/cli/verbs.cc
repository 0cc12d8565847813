#include "app/cli/verbs.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "app/cli/change.h"
#include "app/cli/format.h"
#include "base/log.h"
#include "daemon/admin/admin_client.h"
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

int cpus() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

int fail_with(const Problem& problem) {
  std::fprintf(stderr, "rnbd: %s\n", problem.text().c_str());
  return static_cast<int>(problem.code);
}

std::string socket_of(const Command& command) {
  if (!command.socket.empty()) return command.socket;
  if (command.side == Side::server) return daemon::default_server_socket();
  std::string named = daemon::environment("RNBD_SOCKET");
  return named.empty() ? daemon::default_client_socket() : named;
}

// Asks the daemon; what it refuses is a problem like any other.
Outcome<AdminResponse> ask(const Command& command, const AdminRequest& request) {
  auto answer = daemon::ask_daemon(socket_of(command), request, command.timeout);
  if (answer && answer->error) return daemon::problem(*answer->error);
  return answer;
}

int print_answer(const Command& command, const AdminResponse& response, const std::string& text) {
  if (command.output == Output::json)
    print(to_json_text(response));
  else if (!command.quiet)
    print(text);
  return 0;
}

int run_map(const Command& command) {
  AdminRequest request{.command = AdminCommand::map, .exclusive = command.exclusive};
  auto map = parse_map_words(command.words, daemon::host_name(), cpus());
  if (!map) return fail_with(map.error());
  request.map = std::move(*map);
  request.map.frontend = command.frontend;
  if (command.dry_run) {
    print("would map " + to_line(request.map) + "\n");
    return 0;
  }
  auto answer = ask(command, request);
  if (!answer) return fail_with(answer.error());
  if (answer->devices.empty())
    return fail_with({ProblemCode::failed, "the daemon mapped it but does not say as what",
                      "see 'rnbd list'", 0});
  bool structured = command.output == Output::csv || command.output == Output::xml;
  return print_answer(
      command, *answer,
      structured ? render({device_table(answer->devices, true)}, command.output, command.headers)
                 : describe_use(answer->devices[0], answer->already));
}

int run_unmap(const Command& command) {
  auto target = parse_target_words(command.words, daemon::host_name(), cpus());
  if (!target) return fail_with(target.error());
  AdminRequest request{.command = AdminCommand::unmap,
                       .target = target->target,
                       .session = target->session,
                       .force = command.force || target->force};
  if (command.dry_run) {
    print(fmt::format("would unmap {}{}\n", printable(request.target),
                      request.force ? " by force" : ""));
    return 0;
  }
  auto answer = ask(command, request);
  if (!answer) return fail_with(answer.error());
  std::string name = answer->devices.empty() ? target->target : answer->devices[0].name;
  return print_answer(command, *answer, fmt::format("{} is unmapped\n", printable(name)));
}

std::vector<Table> tables_of(const Command& command, const AdminResponse& answer, bool exact) {
  switch (command.target) {
    case Target::session:
      return {session_table(answer.sessions, exact)};
    case Target::path:
      return {path_table(answer.sessions, exact)};
    case Target::device:
      break;
    case Target::any:
      if (command.side == Side::server)
        return {open_table(answer.opens, exact), session_table(answer.sessions, exact)};
      if (command.verbose)
        return {device_table(answer.devices, exact), session_table(answer.sessions, exact),
                path_table(answer.sessions, exact)};
      break;
  }
  return {command.side == Side::server ? open_table(answer.opens, exact)
                                       : device_table(answer.devices, exact)};
}

int run_list(const Command& command) {
  if (!command.words.empty())
    return fail_with({ProblemCode::usage,
                      fmt::format("list takes no '{}'", printable(command.words[0])),
                      "'rnbd show' tells about one thing", EINVAL});
  auto answer = ask(command, {.command = AdminCommand::list});
  if (!answer) return fail_with(answer.error());
  auto tables = tables_of(command, *answer, command.output != Output::table);
  std::string text = render(tables, command.output, command.headers);
  if (command.output == Output::table) text += warnings(answer->sessions);
  return print_answer(command, *answer, text);
}

bool names(const daemon::DeviceView& d, const TargetWords& words) {
  if (!words.session.empty()) return d.volume == words.target && d.session == words.session;
  const std::array<std::string, 8> all{
      d.name,   "/dev/" + d.name,          d.node, d.loop, d.file, d.nbd,
      d.volume, d.volume + "@" + d.session};
  return std::find(all.begin(), all.end(), words.target) != all.end();
}

// "src,dst" is "src@dst".
std::string with_at(std::string text) {
  if (!text.starts_with("unix:")) std::replace(text.begin(), text.end(), ',', '@');
  return text;
}

// Keeps of the answer what the words name; false when nothing is left.
bool keep_named(AdminResponse& answer, const TargetWords& words) {
  std::erase_if(answer.devices, [&](const auto& d) { return !names(d, words); });
  std::erase_if(answer.opens, [&](const auto& o) {
    return o.volume != words.target && o.session != words.target;
  });
  bool device_found = !answer.devices.empty();
  auto session_named = [&](const daemon::SessionView& s) {
    bool of_device = std::any_of(answer.devices.begin(), answer.devices.end(),
                                 [&](const auto& d) { return d.session == s.name; });
    bool by_path = std::any_of(s.paths.begin(), s.paths.end(), [&](const auto& p) {
      return p.name == with_at(words.target) || p.destination == words.target;
    });
    return of_device || by_path || s.name == words.target;
  };
  std::erase_if(answer.sessions, [&](const auto& s) { return !session_named(s); });
  return device_found || !answer.sessions.empty() || !answer.opens.empty();
}

int run_show(const Command& command) {
  auto answer = ask(command, {.command = AdminCommand::list});
  if (!answer) return fail_with(answer.error());
  if (!command.words.empty()) {
    auto words = parse_target_words(command.words, daemon::host_name(), cpus());
    if (!words) return fail_with(words.error());
    if (!keep_named(*answer, *words))
      return fail_with(
          {ProblemCode::not_found,
           fmt::format("there is no device, session or path '{}'", printable(words->target)),
           "see 'rnbd list'", ENOENT});
  }
  if (command.output == Output::csv || command.output == Output::xml)
    return print_answer(command, *answer,
                        render(tables_of(command, *answer, true), command.output, command.headers));
  std::string text = command.words.empty() ? describe(answer->daemon) : "";
  auto add = [&](const std::string& part) { text += (text.empty() ? "" : "\n") + part; };
  for (const auto& device : answer->devices) add(describe(device));
  for (const auto& session : answer->sessions) add(describe(session));
  if (const std::string words = warnings(answer->sessions); !words.empty()) add(words);
  if (!answer->opens.empty()) add(render({open_table(answer->opens, false)}, Output::table, true));
  return print_answer(command, *answer, text);
}

int run_ping(const Command& command) {
  if (!command.words.empty())
    return fail_with({ProblemCode::usage,
                      "ping asks the daemon of this machine and takes no argument",
                      "with --socket, another one", EINVAL});
  auto answer = ask(command, {.command = AdminCommand::ping});
  if (!answer) return fail_with(answer.error());
  return print_answer(command, *answer,
                      fmt::format("{} {} answers (pid {})\n", answer->daemon.program,
                                  answer->daemon.version, answer->daemon.pid));
}

int run_change(const Command& command) {
  auto request = parse_change(command);
  if (!request) return fail_with(request.error());
  if (command.dry_run) {
    print(fmt::format("would {}\n", intent(*request)));
    return 0;
  }
  auto answer = ask(command, *request);
  if (!answer) return fail_with(answer.error());
  if (command.output == Output::csv || command.output == Output::xml) {
    const Table table = answer->devices.empty() ? (request->command == AdminCommand::set
                                                       ? session_table(answer->sessions, true)
                                                       : path_table(answer->sessions, true))
                                                : device_table(answer->devices, true);
    return print_answer(command, *answer, render({table}, command.output, command.headers));
  }
  return print_answer(command, *answer, outcome(*request, *answer));
}

int run_help(const Command& command) {
  std::string topic = command.words.empty() ? "" : command.words[0];
  std::string text = help_text(topic);
  if (text.empty()) {
    constexpr std::array<std::string_view, 14> topics{
        "map",        "unmap",     "list", "show", "ping",       "add", "remove",
        "disconnect", "reconnect", "set",  "demo", "exit-codes", "uri", "json"};
    return fail_with({ProblemCode::usage, fmt::format("there is no help on '{}'", printable(topic)),
                      daemon::suggestion(topic, topics), EINVAL});
  }
  print(text);
  return 0;
}

}  // namespace

int run_command_line(const std::vector<std::string>& words) {
  auto command = parse_command(words, daemon::environment("RNBD_OUTPUT"));
  if (!command) return fail_with(command.error());
  switch (command->verb) {
    case Verb::map:
      return run_map(*command);
    case Verb::unmap:
      return run_unmap(*command);
    case Verb::list:
      return run_list(*command);
    case Verb::show:
      return run_show(*command);
    case Verb::ping:
      return run_ping(*command);
    case Verb::add:
    case Verb::remove:
    case Verb::disconnect:
    case Verb::reconnect:
    case Verb::set:
      return run_change(*command);
    case Verb::demo:
      return run_demo(*command);
    case Verb::help:
      return run_help(*command);
    case Verb::version:
      print("rnbd " RNBD_VERSION "\n");
      return 0;
  }
  return static_cast<int>(ProblemCode::usage);
}

}  // namespace rnbd::cli
