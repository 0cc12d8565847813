#include "app/cli/apply.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <thread>

#include "app/cli/mapping.h"
#include "app/cli/plan.h"
#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/admin/runtime.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminRequest;
using daemon::AdminResponse;
using daemon::Json;
using daemon::Outcome;
using daemon::Problem;
using daemon::ProblemCode;

int cpus() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

struct Words {
  std::string file;
  bool named = false;  // the file, on the command line
  std::vector<std::string> names;
};

Words words_of(const Command& command) {
  Words words{daemon::default_rnbdtab_file(), false, command.words};
  if (words.names.empty()) return words;
  const std::string& first = words.names[0];
  const bool file = first.find('/') != std::string::npos || access(first.c_str(), F_OK) == 0;
  if (!file && first != "rnbdtab") return words;
  if (file) words.file = first;
  words.named = true;
  words.names.erase(words.names.begin());
  return words;
}

// Does the requests of a step; what a mapped device is called is filled in.
Outcome<std::string> carry_out(const Command& command, const Daemons& daemons, const Step& step) {
  std::string device;
  for (AdminRequest request : step.requests) {
    if (request.command == AdminCommand::set && request.target.empty()) request.target = device;
    auto answer = request.command == AdminCommand::map ? map_one(command, daemons, request)
                                                       : daemons.ask(request);
    if (!answer) return tl::unexpected(answer.error());
    if (request.command == AdminCommand::map && !answer->devices.empty())
      device = answer->devices[0].name;
  }
  return device;
}

// What became of the steps.
class Report {
 public:
  explicit Report(const Command& command) : command_(command) {}

  void would(const Step& step) {
    ++open_;
    add(step, false, "");
    if (step.action == Step::Action::refused)
      text_ += fmt::format("{}: {} ({})\n", printable(step.entry), step.text, step.hint);
    else
      text_ += fmt::format("{}: would {}\n", printable(step.entry), step.text);
  }
  void done(const Step& step, const std::string& device) {
    ++done_;
    add(step, true, "");
    const std::string as = device.empty() ? "" : fmt::format(": it is {}", device);
    say(fmt::format("{}: {}{}\n", printable(step.entry), step.text, as));
  }
  void failed(const Step& step, const Problem& problem) {
    if (!step.nofail) {
      ++open_;
      if (!first_) first_ = problem;
    }
    add(step, false, problem.text());
    std::fprintf(stderr, "rnbd: %s: %s%s\n", printable(step.entry).c_str(), problem.text().c_str(),
                 step.nofail ? " [nofail]" : "");
  }

  ExitStatus finish(bool only_told) {
    Json json{{"version", daemon::kAdminVersion}, {"changes", changes_}, {"open", open_}};
    if (text_.empty() && done_ == 0 && open_ == 0 && changes_.empty()) text_ = "nothing to do\n";
    print_object(command_, json.dump(-1, ' ', false, Json::error_handler_t::replace), text_);
    if (only_told) return command_.verb == Verb::diff && open_ != 0 ? kDifferent : 0;
    if (open_ == 0) return 0;
    return done_ == 0 && first_ && open_ == 1 ? exit_status(*first_, false) : kPartly;
  }

 private:
  void say(const std::string& text) {
    // Told as it happens: a long table is a long wait.
    if (command_.output == Output::table && !command_.quiet) print(text);
  }
  void add(const Step& step, bool done, const std::string& error) {
    Json change{{"entry", step.entry},
                {"action", action_name(step.action)},
                {"text", step.text},
                {"done", done}};
    if (!error.empty() || step.action == Step::Action::refused)
      change["error"] = error.empty() ? step.hint : error;
    changes_.push_back(std::move(change));
  }

  const Command& command_;
  Json changes_ = Json::array();
  std::string text_;
  std::size_t done_ = 0, open_ = 0;
  std::optional<Problem> first_;
};

// With --wait, until the daemon is there.
Outcome<AdminResponse> what_is_mapped(const Command& command, const Daemons& daemons) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + command.timeout;
  for (;;) {
    auto now = daemons.ask({.command = AdminCommand::list});
    const bool again =
        command.wait && !now && Clock::now() < deadline &&
        (now.error().code == ProblemCode::unreachable || now.error().code == ProblemCode::busy);
    if (!again) return now;
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

}  // namespace

ExitStatus run_apply(const Command& command) {
  const Words words = words_of(command);
  if (command.prune && !words.names.empty())
    return daemon::usage_problem("--prune is about the whole table", "leave the names out");
  if (command.prune && command.unmap)
    return daemon::usage_problem("--prune and --unmap exclude each other", "say one of them");
  auto table = daemon::load_rnbdtab(words.file, words.named || command.prune, cpus());
  if (!table) return tl::unexpected(table.error());
  auto daemons = Daemons::of(command);
  if (!daemons) return tl::unexpected(daemons.error());
  auto now = what_is_mapped(command, *daemons);
  if (!now) return tl::unexpected(now.error());
  PlanOptions options{words.names, command.prune, command.unmap, command.force,
                      daemon::host_name()};
  auto steps = plan(*table, *now, options);
  if (!steps) return tl::unexpected(steps.error());
  Report report(command);
  const bool only_tell = command.verb == Verb::diff || command.dry_run;
  for (const Step& step : *steps) {
    if (only_tell) {
      report.would(step);
      continue;
    }
    if (step.action == Step::Action::refused) {
      report.failed(step, {ProblemCode::busy, step.text, step.hint, EBUSY});
      continue;
    }
    auto device = carry_out(command, *daemons, step);
    device ? report.done(step, *device) : report.failed(step, device.error());
  }
  return report.finish(only_tell);
}

}  // namespace rnbd::cli
