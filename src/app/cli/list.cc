#include "app/cli/list.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>
#include <thread>

#include "app/cli/daemons.h"
#include "app/cli/describe.h"
#include "base/log.h"
#include "daemon/admin/runtime.h"
#include "daemon/admin/suggest.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminResponse;
using daemon::Outcome;

using Tables = std::vector<Table>;

// The tables a list of this answer consists of; with fields, just the one they are of.
Outcome<Tables> tables_of(const Command& command, const AdminResponse& answer) {
  const bool server = of_server(answer);
  const bool tree =
      command.tree && command.headers && command.output == Output::table && !command.old_shape;
  Tables tables;
  auto add = [&](Outcome<Table> table) -> Outcome<void> {
    if (!table) return tl::unexpected(table.error());
    tables.push_back(std::move(*table));
    return {};
  };
  auto add_target = [&](Target target) {
    if (target == Target::session)
      return add(session_table(answer.sessions, server, command.fields, tree));
    if (target == Target::path) return add(path_table(answer.sessions, server, command.fields));
    return add(server ? open_table(answer.opens, command.fields)
                      : device_table(answer.devices, command.fields));
  };
  std::vector<Target> targets{command.target};
  if (command.target == Target::any) {
    targets = {Target::device};
    const bool one = !command.fields.empty() || command.old_shape ||
                     (command.verb == Verb::list && command.output == Output::csv);
    // "show SESSION FIELDS" of a session without devices
    if (one && command.verb == Verb::show && answer.devices.empty() && answer.opens.empty())
      targets = {Target::session};
    if (!one && (server || command.verbose)) targets.push_back(Target::session);
    if (!one && command.verbose) targets.push_back(Target::path);
  }
  for (Target target : targets)
    if (auto added = add_target(target); !added) return tl::unexpected(added.error());
  return tables;
}

// One list of fields is for imports and exports: each has those it knows. What neither knows stays,
// to be refused.
FieldWords known_fields(const Command& command, bool server) {
  FieldWords words;
  for (const std::string& word : command.fields) {
    const std::string sign = word[0] == '+' || word[0] == '-' ? word.substr(0, 1) : "";
    std::string kept;
    std::istringstream names(word.substr(sign.size()));
    for (std::string name; std::getline(names, name, ',');) {
      const bool other = has_field(command.target, !server, name);
      if (has_field(command.target, server, name) || !other)
        kept += (kept.empty() ? "" : ",") + name;
    }
    if (!kept.empty()) words.push_back(sign + kept);
  }
  return words;
}

// The old tool's forms name what is ours and what others have of us apart.
ExitStatus print_old(const Command& command, const Answers& answers) {
  std::vector<OldTable> tables;
  auto add = [&](const AdminResponse& answer, bool server) -> Outcome<void> {
    Command side = command;
    side.fields = known_fields(command, server);
    auto found = tables_of(side, answer);
    if (!found) return tl::unexpected(found.error());
    for (Table& table : *found) tables.push_back({std::move(table), server});
    return {};
  };
  AdminResponse none;
  const bool only_server = of_server(answers.first);
  if (!only_server) {
    if (auto added = add(answers.first, false); !added) return tl::unexpected(added.error());
    none.daemon.program = "rnbd-server";
    if (command.side != Side::client)
      if (auto added = add(answers.both ? answers.server : none, true); !added)
        return tl::unexpected(added.error());
  } else {
    if (command.side != Side::server)
      if (auto added = add(none, false); !added) return tl::unexpected(added.error());
    if (auto added = add(answers.first, true); !added) return tl::unexpected(added.error());
  }
  print(command.output == Output::json  ? render_old_json(tables)
        : command.output == Output::xml ? render_old_xml(tables)
                                        : render_old_csv(tables, command.headers));
  return 0;
}

ExitStatus print_tables(const Command& command, const Answers& answers) {
  if (command.old_shape) return print_old(command, answers);
  auto tables = tables_of(command, answers.first);
  if (!tables) return tl::unexpected(tables.error());
  if (answers.both) {
    auto more = tables_of(command, answers.server);
    if (!more) return tl::unexpected(more.error());
    for (Table& table : *more)
      if (!table.rows.empty()) tables->push_back(std::move(table));
  }
  std::string text = render_tables(*tables, style_of(command));
  if (command.headers) text += warnings(answers.first.sessions);
  return print_answer(command, answers, *tables, text);
}

std::string description(const AdminResponse& answer, bool with_daemon) {
  std::string text = with_daemon ? describe(answer.daemon) : "";
  auto add = [&](const std::string& part) { text += (text.empty() ? "" : "\n") + part; };
  for (const auto& device : answer.devices) add(describe(device));
  for (const auto& session : answer.sessions) add(describe(session));
  if (const std::string words = warnings(answer.sessions); !words.empty()) add(words);
  for (const auto& open : answer.opens) add(describe(open));
  return text;
}

bool names(const daemon::DeviceView& d, const TargetWords& words) {
  if (!words.session.empty()) return d.volume == words.target && d.session == words.session;
  const std::array<std::string, 9> all{d.name, "/dev/" + d.name, d.node,
                                       d.ublk, d.loop,           d.file,
                                       d.nbd,  d.volume,         d.volume + "@" + d.session};
  return std::find(all.begin(), all.end(), words.target) != all.end();
}

// "src,dst" is "src@dst".
std::string with_at(std::string text) {
  if (!text.starts_with("unix:")) std::replace(text.begin(), text.end(), ',', '@');
  return text;
}

// Of the words' target, only the kind that was said.
void keep_kind(AdminResponse& answer, Target target) {
  if (target == Target::session || target == Target::path) {
    answer.devices.clear();
    answer.opens.clear();
  }
}

// Of a session one path, by its name or number; false, and nothing done, when there is none.
bool keep_path(AdminResponse& answer, const std::string& session, const std::string& word) {
  for (const daemon::SessionView& s : answer.sessions) {
    if (s.name != session) continue;
    for (const daemon::PathView& p : s.paths) {
      if (p.name != with_at(word) && p.destination != word && std::to_string(p.number) != word)
        continue;
      daemon::SessionView kept = s;
      kept.paths = {p};
      keep_kind(answer, Target::path);
      answer.sessions = {std::move(kept)};
      return true;
    }
  }
  return false;
}

int cpus() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

// What the words of the command name, of both daemons; all of it without words.
Outcome<Answers> find(const Command& command) {
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  auto answers = daemons->ask_both({.command = AdminCommand::list});
  if (!answers) return answers;
  if (command.words.empty()) {
    keep_kind(answers->first, command.target);
    keep_kind(answers->server, command.target);
    return answers;
  }
  if (command.words.size() == 2) {
    const bool here = keep_path(answers->first, command.words[0], command.words[1]);
    const bool there =
        answers->both && keep_path(answers->server, command.words[0], command.words[1]);
    if (here || there) {
      if (!here) answers->first = std::exchange(answers->server, {});
      answers->both = here && there;
      return answers;
    }
  }
  const IsSession known = [&](std::string_view name) {
    return std::any_of(answers->first.sessions.begin(), answers->first.sessions.end(),
                       [&](const auto& session) { return session.name == name; });
  };
  auto words = parse_target_words(command.words, daemon::host_name(), cpus(), known);
  if (!words) return tl::unexpected(words.error());
  bool here = keep_named(answers->first, *words);
  keep_kind(answers->first, command.target);
  const bool there = answers->both && keep_named(answers->server, *words);
  keep_kind(answers->server, command.target);
  if (!here && !there)
    return daemon::problem(
        {daemon::ProblemCode::not_found,
         fmt::format("there is no device, session or path '{}'", printable(words->target)),
         "see 'rnbd list'", ENOENT});
  if (!here) answers->first = std::exchange(answers->server, {});
  answers->both = here && there;
  return answers;
}

}  // namespace

bool keep_named(AdminResponse& answer, std::span<const TargetWords> any) {
  const auto one_of = [&](auto&& meant) { return std::any_of(any.begin(), any.end(), meant); };
  std::erase_if(answer.devices, [&](const auto& d) {
    return !one_of([&](const TargetWords& words) {
      return names(d, words) || (words.session.empty() && d.session == words.target);
    });
  });
  std::erase_if(answer.opens, [&](const auto& o) {
    return !one_of([&](const TargetWords& words) {
      if (!words.session.empty()) return o.volume == words.target && o.session == words.session;
      return o.volume == words.target || o.session == words.target;
    });
  });
  std::erase_if(answer.sessions, [&](const auto& s) {
    const bool of_device = std::any_of(answer.devices.begin(), answer.devices.end(),
                                       [&](const auto& d) { return d.session == s.name; });
    return !of_device && !one_of([&](const TargetWords& words) {
      return s.name == words.target ||
             std::any_of(s.paths.begin(), s.paths.end(), [&](const auto& p) {
               return p.name == with_at(words.target) || p.destination == words.target;
             });
    });
  });
  return !answer.devices.empty() || !answer.sessions.empty() || !answer.opens.empty();
}

std::string tree_text(const AdminResponse& answer, const Style& style) {
  std::string text;
  for (const auto& session : answer.sessions) {
    std::vector<std::string> leaves;
    for (const auto& p : session.paths)
      leaves.push_back(fmt::format("{}  {}{}{}", printable(p.name.empty() ? p.destination : p.name),
                                   p.slow ? p.state + ", slow" : p.state,
                                   p.device.empty() ? "" : "  " + p.device,
                                   p.error.empty() ? "" : "  " + printable(p.error)));
    for (const auto& d : answer.devices)
      if (d.session == session.name)
        leaves.push_back(fmt::format("{}  {}  {}  {}  {}", d.name, printable(d.volume),
                                     size_text(d.size, style.unit), d.access_mode, d.state));
    for (const auto& o : answer.opens)
      if (o.session == session.name)
        leaves.push_back(fmt::format("{}  {}  {}{}", printable(o.volume),
                                     size_text(o.size, style.unit), o.access_mode,
                                     o.device.empty() ? "" : "  " + printable(o.device)));
    text +=
        fmt::format("{}  {}  {}\n", printable(session.name), session.state, path_letters(session));
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      const bool last = i + 1 == leaves.size();
      text += style.unicode ? (last ? "└─ " : "├─ ") : (last ? "`- " : "|- ");
      text += leaves[i] + "\n";
    }
  }
  return text;
}

namespace {

// "devname,size" for "devnam,size"; empty where a part is like no column.
std::string nearest_fields(const std::string& word, std::span<const std::string_view> known) {
  const std::string sign = word.starts_with('+') || word.starts_with('-') ? word.substr(0, 1) : "";
  std::string meant = sign;
  std::istringstream parts(word.substr(sign.size()));
  for (std::string part; std::getline(parts, part, ',');) {
    const std::string name = daemon::nearest(part, known);
    if (name.empty()) return {};
    meant += (meant.size() == sign.size() ? "" : ",") + name;
  }
  return meant;
}

}  // namespace

ExitStatus run_list(const Command& command) {
  if (!command.words.empty()) {
    std::vector<std::string_view> known = field_names(command.target, command.side == Side::server);
    for (const auto& target : target_words()) known.push_back(target.text);
    for (const auto& output : output_words()) known.push_back(output.text);
    std::string meant = daemon::nearest(command.words[0], known);
    if (meant.empty()) meant = nearest_fields(command.words[0], known);
    return daemon::usage_problem(
        fmt::format("list takes no '{}'", printable(command.words[0])),
        meant.empty() ? "'rnbd show' tells about one thing, 'rnbd help fields' lists the columns"
                      : fmt::format("did you mean '{}'?", meant));
  }
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  if (command.old_shape) {
    auto answers = daemons->ask_both({.command = AdminCommand::list});
    if (!answers) return tl::unexpected(answers.error());
    return print_tables(command, *answers);
  }
  auto answer = daemons->ask({.command = AdminCommand::list});
  if (!answer) return tl::unexpected(answer.error());
  return print_tables(command, {std::move(*answer), {}, false});
}

ExitStatus run_show(const Command& command) {
  auto answers = find(command);
  if (!answers) return tl::unexpected(answers.error());
  const bool as_tables = command.output == Output::csv || command.output == Output::xml ||
                         command.old_shape || !command.fields.empty();
  if (as_tables) return print_tables(command, *answers);
  const bool whole = command.words.empty();
  std::string text = description(answers->first, whole);
  if (answers->both) text += "\n" + description(answers->server, whole);
  return print_answer(command, *answers, {}, text);
}

ExitStatus run_tree(const Command& command) {
  auto answers = find(command);
  if (!answers) return tl::unexpected(answers.error());
  if (command.output == Output::csv || command.output == Output::xml)
    return print_tables(command, *answers);
  const Style style = style_of(command);
  std::string text = tree_text(answers->first, style);
  if (answers->both) text += tree_text(answers->server, style);
  return print_answer(command, *answers, {}, text);
}

ExitStatus run_dump(const Command& command) {
  Command all = command;
  all.verbose = true;
  if (!command.words.empty())
    return daemon::usage_problem(fmt::format("dump takes no '{}'", printable(command.words[0])),
                                 "'rnbd show' tells about one thing");
  auto answers = find(all);
  if (!answers) return tl::unexpected(answers.error());
  return print_tables(all, *answers);
}

}  // namespace rnbd::cli
