#pragma once
// What an administrator may ask of a server, answered from its sessions and exports. Lives on the
// home loop; answers come later, from there.

#include <functional>
#include <string>
#include <vector>

#include "daemon/admin/admin_server.h"
#include "daemon/admin/protocol.h"
#include "daemon/config/config.h"
#include "daemon/tree/attributes.h"
#include "rnbd/server/exports.h"
#include "rtrs/server/server.h"

namespace rnbd::daemon {

OpenView view_of(const server::OpenInfo& open);
SessionView view_of(const rtrs::server::SessionInfo& session, const ServerConfig& config);

class ServerAdmin final {
 public:
  // Server and exports outlive it.
  ServerAdmin(const ServerConfig& config, const std::vector<ExportConfig>& exports_config,
              std::vector<std::string> listening, rtrs::server::Server& server,
              server::Exports& exports);

  void handle(const AdminRequest& request, const AdminReply& reply);
  Attributes& attributes() { return attributes_; }

 private:
  DaemonView daemon_view() const;
  void list(const AdminReply& reply);

  // server_commands.cc
  void resize(const AdminRequest& request, const AdminReply& reply);
  void recover(const AdminRequest& request, const AdminReply& reply);
  void close(const AdminRequest& request, const AdminReply& reply);
  void disconnect(const AdminRequest& request, const AdminReply& reply);
  void reset(const AdminRequest& request, const AdminReply& reply);
  void fail(const AdminReply& reply, Problem why) const;
  void reply_with_opens(const std::string& volume, const std::string& session,
                        const std::vector<server::OpenInfo>& opens, const AdminReply& reply) const;
  void reply_with_session(const rtrs::server::SessionInfo& session, const std::string& path,
                          const AdminReply& reply) const;
  // Calls with the session meant and its path, which is empty when all are meant.
  void find_paths(const AdminRequest& request, const AdminReply& reply,
                  std::function<void(const rtrs::server::SessionInfo&, const std::string&)> use);

  const ServerConfig& config_;
  const std::vector<ExportConfig>& exports_config_;
  const std::vector<std::string> listening_;
  rtrs::server::Server& server_;
  server::Exports& exports_;
  Attributes attributes_;
};

}  // namespace rnbd::daemon
