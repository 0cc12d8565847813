#include "app/cli/top.h"

#include <fmt/format.h>

#include <cerrno>
#include <chrono>

#include "app/cli/daemons.h"
#include "app/cli/list.h"
#include "app/cli/rates.h"
#include "app/cli/terminal.h"
#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::Outcome;
using Clock = std::chrono::steady_clock;

struct Sample {
  Answers answers;
  Clock::time_point time;
};

Outcome<Sample> sample(const Command& command, const Daemons& daemons) {
  auto answers = daemons.ask_both({.command = AdminCommand::list});
  if (!answers) return tl::unexpected(answers.error());
  std::vector<TargetWords> named;
  for (const std::string& name : command.words) named.push_back({name, "", false});
  if (!named.empty()) {
    keep_named(answers->first, named);
    keep_named(answers->server, named);
  }
  return Sample{std::move(*answers), Clock::now()};
}

// What is not there when it begins is a mistake; later it may go and come.
Outcome<void> check_names(const Command& command, const Sample& sample) {
  for (const std::string& name : command.words) {
    Answers answers = sample.answers;
    const TargetWords words{name, "", false};
    const bool here = keep_named(answers.first, words);
    if (!here && !keep_named(answers.server, words))
      return daemon::problem(
          {daemon::ProblemCode::not_found,
           fmt::format("there is no device, session or path '{}'", printable(name)),
           "see 'rnbd list'", ENOENT});
  }
  return {};
}

std::string headline(const Answers& answers, const std::string& time, Duration interval) {
  std::string text = fmt::format("rnbd top  {}  every {}", time, daemon::format_duration(interval));
  for (const auto* answer : {&answers.first, &answers.server})
    if (!answer->daemon.program.empty())
      text += fmt::format("  {} {}", printable(answer->daemon.program),
                          printable(answer->daemon.version));
  return text + "\n\n";
}

std::string error_json(const daemon::Problem& problem, const std::string& time) {
  daemon::Json json{{"version", daemon::kAdminVersion}, {"time", time}, {"error", problem.text()}};
  return json.dump(-1, ' ', false, daemon::Json::error_handler_t::replace) + "\n";
}

}  // namespace

ExitStatus run_top(const Command& command) {
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  auto before = sample(command, *daemons);
  if (!before) return tl::unexpected(before.error());
  if (auto known = check_names(command, *before); !known) return tl::unexpected(known.error());
  const bool lines = command.batch || command.output != Output::table;
  Terminal terminal(!lines);
  std::uint64_t shown = 0;
  while (terminal.wait(command.interval)) {
    const std::string time = rfc3339(std::chrono::system_clock::now());
    auto now = sample(command, *daemons);
    if (now) {
      const Duration between = now->time - before->time;
      const auto rates = rates_between(before->answers, now->answers, between);
      if (lines) {
        terminal.draw(rates_json(rates, time, between));
      } else {
        std::string text = headline(now->answers, time, command.interval);
        text += rates_text(rates, command.target, style_of(command));
        terminal.draw(text + (terminal.has_screen() ? "" : "\n"));
      }
      before = std::move(now);
    } else {
      // A daemon that is restarted comes back.
      const std::string why = now.error().text();
      terminal.draw(lines ? error_json(now.error(), time)
                          : fmt::format("rnbd top  {}\n\n{}\n", time, why));
    }
    if (++shown == command.count) break;
  }
  return 0;
}

}  // namespace rnbd::cli
