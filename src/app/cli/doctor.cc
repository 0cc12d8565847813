#include "app/cli/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "app/cli/daemons.h"
#include "app/cli/probe.h"
#include "app/cli/progress.h"
#include "base/log.h"
#include "daemon/admin/json_fields.h"
#include "daemon/admin/runtime.h"
#include "daemon/config/config.h"
#include "daemon/config/rnbdtab.h"

namespace rnbd::cli {
namespace {

using daemon::AdminCommand;
using daemon::AdminResponse;
using daemon::Json;
using daemon::MapRequest;
using daemon::Outcome;

constexpr Duration kConnectTime = std::chrono::seconds(3);

int cpus() { return static_cast<int>(std::max(1U, std::thread::hardware_concurrency())); }

class Doctor {
 public:
  explicit Doctor(const Command& command) : command_(command) {}

  Findings examine() {
    add(check_drivers(machine_));
    look_at_daemons();
    add(check_rdma(machine_));
    look_at_files();
    for (const std::string& address : command_.words)
      look_at_named(endpoint_of(address, daemon::kDefaultPort));
    return std::move(findings_);
  }

 private:
  void add(Findings more) {
    findings_.insert(findings_.end(), std::make_move_iterator(more.begin()),
                     std::make_move_iterator(more.end()));
  }
  void add(Severity severity, std::string check, std::string text, std::string advice = {}) {
    findings_.push_back({severity, std::move(check), std::move(text), std::move(advice)});
  }

  void look_at_daemons() {
    Command each = command_;
    each.timeout = std::min<Duration>(command_.timeout, std::chrono::seconds(5));
    std::size_t running = 0;
    Findings absent;
    for (Side side : {Side::client, Side::server}) {
      if (command_.side != Side::any && command_.side != side) continue;
      each.side = side;
      auto one = Daemons::of(each);
      if (!one) {  // the configuration named is what is wrong, which is said with the files
        each.config.clear();
        one = Daemons::of(each);
      }
      auto answer = one ? one->ask({.command = AdminCommand::list})
                        : Outcome<AdminResponse>(tl::unexpected(one.error()));
      if (answer && of_server(*answer) != (side == Side::server)) continue;  // --socket: the other
      if (!answer) {
        const bool only_absent = answer.error().code == daemon::ProblemCode::unreachable;
        absent.push_back({only_absent ? Severity::note : Severity::error, "daemon",
                          answer.error().what, answer.error().hint});
        continue;
      }
      ++running;
      add(check_daemon(*answer, RNBD_VERSION));
      add(check_limits(machine_, answer->daemon.pid, answer->daemon.program));
      look_at_paths(*answer);
    }
    if (running == 0) {
      for (Finding& finding : absent) finding.severity = Severity::error;
      add(check_limits(machine_, 0, "a program started from here"));
    }
    add(std::move(absent));
  }

  void look_at_paths(const AdminResponse& answer) {
    if (of_server(answer)) return;
    for (const auto& session : answer.sessions) {
      for (const auto& path : session.paths) {
        const Endpoint to = endpoint_of(path.destination, path.port);
        if (path.state == "connected") {
          add(Severity::ok, "reach",
              fmt::format("session {}: {} is connected", printable(session.name),
                          printable(path.name)));
          look_at_way(to, false);
          up_.push_back(name_of(to));
          continue;
        }
        add(Severity::warning, "reach",
            fmt::format("session {}: {} is {}{}{}", printable(session.name),
                        printable(path.destination), path.state, path.error.empty() ? "" : ": ",
                        printable(path.error)),
            path.state == "closed" ? "'rnbd reconnect' connects it" : "");
        look_at_way(to, path.fabric != "verbs");
      }
    }
  }

  static std::string name_of(const Endpoint& to) {
    return fmt::format("{} port {}", printable(to.host), printable(to.port));
  }

  // Who asks about an address is answered, also where a path says it already.
  void look_at_named(const Endpoint& to) {
    if (std::find(up_.begin(), up_.end(), name_of(to)) != up_.end())
      add(Severity::ok, "reach", name_of(to) + " is where a path is connected to");
    else
      look_at_way(to, true);
  }

  // Each place once.
  void look_at_way(const Endpoint& to, bool connect) {
    const std::string name = name_of(to);
    if (to.host.empty() || std::find(seen_.begin(), seen_.end(), name) != seen_.end()) return;
    seen_.push_back(name);
    const std::string interface = interface_to(to);
    if (!interface.empty()) add(check_interface(machine_, interface, to.host));
    if (!connect) return;
    Progress progress("connecting to " + name, kConnectTime, command_.quiet);
    auto tried = try_connect(to, kConnectTime);
    if (tried)
      add(Severity::ok, "reach", name + " takes connections");
    else
      add(Severity::error, "reach", tried.error().what,
          interface.empty() ? "there is no route: look at 'ip route'"
                            : "is rnbd-server running there, and does a firewall let TCP through?");
  }

  void look_at_files() {
    const std::string file =
        command_.config.empty() ? daemon::default_config_file() : command_.config;
    auto config = daemon::load_config(file, !command_.config.empty());
    if (!config)
      add(Severity::error, "config", config.error().what, config.error().hint);
    else if (machine_.has(file))
      add(Severity::ok, "config", file + " is understood");
    else
      add(Severity::ok, "config", fmt::format("there is no {}: defaults are used", file));
    const std::string tab = daemon::default_rnbdtab_file();
    auto table = daemon::load_rnbdtab(tab, false, cpus());
    if (!table)
      add(Severity::error, "config", table.error().what, table.error().hint);
    else if (machine_.has(tab))
      add(Severity::ok, "config",
          fmt::format("{} is understood: {} volumes", tab, table->entries.size()));
  }

  const Command& command_;
  Machine machine_;
  Findings findings_;
  std::vector<std::string> seen_;  // places, by name_of
  std::vector<std::string> up_;    // those of connected paths
};

Severity worst_of(const Findings& findings) {
  Severity worst = Severity::ok;
  for (const Finding& finding : findings) worst = std::max(worst, finding.severity);
  return worst;
}

}  // namespace

std::string findings_text(const Findings& findings, bool only_problems) {
  std::string text;
  std::size_t warnings = 0, errors = 0;
  for (const Finding& finding : findings) {
    warnings += finding.severity == Severity::warning ? 1 : 0;
    errors += finding.severity == Severity::error ? 1 : 0;
    if (only_problems && finding.severity < Severity::warning) continue;
    text += fmt::format("{:<8} {:<8} {}\n", severity_name(finding.severity), finding.check,
                        finding.text);
    if (!finding.advice.empty()) text += fmt::format("{:<17} -> {}\n", "", finding.advice);
  }
  return text + fmt::format("{} errors, {} warnings\n", errors, warnings);
}

std::string findings_json(const Findings& findings) {
  Json json{{"version", daemon::kAdminVersion}, {"worst", severity_name(worst_of(findings))}};
  Json& list = json["findings"] = Json::array();
  for (const Finding& finding : findings)
    list.push_back({{"severity", severity_name(finding.severity)},
                    {"check", finding.check},
                    {"text", finding.text},
                    {"advice", finding.advice}});
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int status_of(const Findings& findings) {
  const Severity worst = worst_of(findings);
  return worst == Severity::error ? 1 : worst == Severity::warning ? kPartly : 0;
}

ExitStatus run_doctor(const Command& command) {
  const Findings findings = Doctor(command).examine();
  Command shown = command;
  shown.quiet = false;  // --quiet: problems only
  print_object(shown, findings_json(findings), findings_text(findings, command.quiet));
  return status_of(findings);
}

}  // namespace rnbd::cli
