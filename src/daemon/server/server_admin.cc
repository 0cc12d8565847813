#include "daemon/server/server_admin.h"

#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "daemon/admin/map_request.h"
#include "daemon/admin/runtime.h"
#include "daemon/admin/stages.h"

namespace rnbd::daemon {
namespace {

PathView view_of(const rtrs::server::PathInfo& path) {
  PathView view;
  view.fabric = path.fabric;
  view.device = to_text(path.device);
  view.digest = path.digest;
  view.name = path.name;
  view.state = path.state;
  view.connections = path.connections;
  view.reads = path.reads;
  view.read_bytes = path.read_bytes;
  view.writes = path.writes;
  view.write_bytes = path.write_bytes;
  view.inflight = path.inflight;
  view.errors = path.errors;
  view.source_address = path.client.to_string();
  view.destination_address = path.server_address.to_string();
  view.stages = {stage_view("server", path.server), stage_view("backend", path.backend)};
  return view;
}

}  // namespace

SessionView view_of(const rtrs::server::SessionInfo& session, const ServerConfig& config) {
  SessionView view;
  view.name = session.name;
  const SessionHosts hosts = hosts_of_session_name(session.name);
  view.client_host = hosts.client;
  view.server_host = hosts.server.empty() ? host_name() : hosts.server;
  view.state = "connected";
  view.queue_depth = static_cast<std::uint32_t>(config.sess_queue_depth);
  view.max_io_size = config.max_chunk_size - rtrs::server::ServerOptions{}.header_size;
  LatencyCounts server{}, backend{};
  for (const auto& path : session.paths) {
    view.paths.push_back(view_of(path));
    view.paths.back().number = static_cast<std::uint32_t>(view.paths.size());
    server += path.server;
    backend += path.backend;
  }
  add_up(view);
  view.stages = {stage_view("server", server), stage_view("backend", backend)};
  return view;
}

OpenView view_of(const server::OpenInfo& open) {
  OpenView view;
  view.volume = open.name;
  view.session = open.session;
  view.device_id = open.device_id;
  view.access_mode = wire::access_mode_name(open.mode);
  view.size = open.size;
  view.reads = open.reads;
  view.read_bytes = open.read_bytes;
  view.writes = open.writes;
  view.write_bytes = open.write_bytes;
  view.errors = open.errors;
  view.inflight = open.inflight;
  view.device = open.place;
  view.read_only = open.mode == server::AccessMode::ro;
  view.flush_failed = open.flush_failed;
  view.stages = {stage_view("server", open.server), stage_view("backend", open.backend)};
  return view;
}

namespace {

// The one that was free, where any was asked for.
std::uint16_t port_of(const ServerConfig& config, const rtrs::server::Server& server) {
  for (const fabric::Address& address : server.listen_addresses())
    if (!address.is_unix()) return address.port();
  return static_cast<std::uint16_t>(config.port_nr);
}

}  // namespace

ServerAdmin::ServerAdmin(const ServerConfig& config,
                         const std::vector<ExportConfig>& exports_config,
                         std::vector<std::string> listening, rtrs::server::Server& server,
                         server::Exports& exports)
    : config_(config),
      exports_config_(exports_config),
      listening_(std::move(listening)),
      server_(server),
      exports_(exports),
      attributes_([this](bool, const AdminReply& reply) { list(reply); },
                  [this](const AdminRequest& request, const AdminReply& reply) {
                    handle(request, reply);
                  }) {}

void ServerAdmin::handle(const AdminRequest& request, const AdminReply& answered) {
  if (Attributes::is_for(request.command)) return attributes_.handle(request, answered);
  const AdminReply reply = attributes_.noting(answered);
  switch (request.command) {
    case AdminCommand::list:
    case AdminCommand::ping:
      return list(reply);
    case AdminCommand::resize:
      return resize(request, reply);
    case AdminCommand::recover:
      return recover(request, reply);
    case AdminCommand::close:
      return close(request, reply);
    case AdminCommand::disconnect:
      return disconnect(request, reply);
    case AdminCommand::reset:
      return reset(request, reply);
    default:
      break;
  }
  AdminResponse response;
  response.daemon = daemon_view();
  response.error =
      Problem{ProblemCode::usage, "a server maps no volumes and chooses no paths of its clients",
              "ask rnbd-client", EINVAL};
  reply(response);
}

DaemonView ServerAdmin::daemon_view() const {
  DaemonView view{.program = "rnbd-server",
                  .version = RNBD_VERSION,
                  .pid = getpid(),
                  .listen = listening_,
                  .search_path = config_.dev_search_path,
                  .exports = {},
                  .port_nr = port_of(config_, server_),
                  .max_chunk_size = config_.max_chunk_size,
                  .sess_queue_depth = config_.sess_queue_depth,
                  .always_invalidate = config_.network.memory_windows != "off"};
  for (const ExportConfig& entry : exports_config_) view.exports.push_back(entry.name);
  return view;
}

void ServerAdmin::list(const AdminReply& reply) {
  // Shared by the two questions under way.
  auto response = std::make_shared<AdminResponse>();
  response->daemon = daemon_view();
  server_.list_sessions(
      [this, response, reply](const std::vector<rtrs::server::SessionInfo>& sessions) {
        for (const auto& session : sessions)
          response->sessions.push_back(view_of(session, config_));
        exports_.list([response, reply](const std::vector<server::OpenInfo>& opens) {
          for (const auto& open : opens) response->opens.push_back(view_of(open));
          reply(*response);
        });
      });
}

}  // namespace rnbd::daemon
