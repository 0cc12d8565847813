#include "app/cli/daemons.h"

#include <unistd.h>

#include <cerrno>

#include "daemon/admin/admin_client.h"
#include "daemon/admin/runtime.h"
#include "daemon/config/config.h"

namespace rnbd::cli {

using daemon::AdminRequest;
using daemon::AdminResponse;
using daemon::Outcome;

namespace {

Outcome<AdminResponse> ask_at(const std::string& socket, const AdminRequest& request,
                              Duration timeout) {
  auto answer = daemon::ask_daemon(socket, request, timeout);
  if (answer && answer->error) return daemon::problem(*answer->error);
  return answer;
}

// Nothing listens on its socket: not started, or gone.
bool no_daemon(const daemon::Problem& problem) {
  return problem.code == daemon::ProblemCode::unreachable &&
         (problem.error == ENOENT || problem.error == ECONNREFUSED);
}

}  // namespace

Outcome<Daemons> Daemons::of(const Command& command) {
  Daemons daemons(command);
  daemons.client_ = daemon::default_client_socket();
  daemons.server_ = daemon::default_server_socket();
  const std::string file = command.config.empty() ? daemon::default_config_file() : command.config;
  if (!command.config.empty() || access(file.c_str(), R_OK) == 0) {
    // A broken configuration that was not asked for is the daemons' concern, and the doctor's.
    auto config = daemon::load_config(file, true);
    if (!config && !command.config.empty()) return tl::unexpected(config.error());
    if (config && !config->client.admin_socket.empty())
      daemons.client_ = config->client.admin_socket;
    if (config && !config->server.admin_socket.empty())
      daemons.server_ = config->server.admin_socket;
  }
  const std::string environment = daemon::environment("RNBD_SOCKET");
  if (!command.socket.empty()) {
    daemons.client_ = daemons.server_ = command.socket;
    daemons.named_ = true;
  } else if (!environment.empty() && command.config.empty()) {
    daemons.client_ = environment;
    daemons.named_ = command.side != Side::server;
  }
  return daemons;
}

bool Daemons::one_is_meant() const { return named_ || command_.side != Side::any; }

const std::string& Daemons::socket() const {
  const bool server = command_.side == Side::server || info(command_.verb).sides == kServer;
  return server ? server_ : client_;
}

Outcome<AdminResponse> Daemons::ask(const AdminRequest& request) const {
  auto answer = ask_at(socket(), request, command_.timeout);
  const bool may_be_server = !one_is_meant() && info(command_.verb).sides == kBoth;
  if (answer || !may_be_server || !no_daemon(answer.error())) return answer;
  auto server = ask_server(request);
  if (!server && no_daemon(server.error())) return answer;
  return server;
}

Outcome<AdminResponse> Daemons::ask_server(const AdminRequest& request) const {
  return ask_at(server_, request, command_.timeout);
}

Outcome<Answers> Daemons::ask_both(const AdminRequest& request) const {
  auto first = ask(request);
  if (!first) return tl::unexpected(first.error());
  Answers answers{std::move(*first), {}, false};
  if (one_is_meant() || of_server(answers.first)) return answers;
  auto server = ask_server(request);
  if (!server) return answers;
  answers.server = std::move(*server);
  answers.both = true;
  return answers;
}

}  // namespace rnbd::cli
