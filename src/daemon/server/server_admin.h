#pragma once
// What an administrator may ask of a server, answered from its sessions and exports. Lives on the
// home loop; answers come later, from there.

#include <string>
#include <vector>

#include "daemon/admin/admin_server.h"
#include "daemon/admin/protocol.h"
#include "daemon/config/config.h"
#include "daemon/tree/attributes.h"
#include "rnbd/server/exports.h"
#include "rtrs/server/server.h"

namespace rnbd::daemon {

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

  const ServerConfig& config_;
  const std::vector<ExportConfig>& exports_config_;
  const std::vector<std::string> listening_;
  rtrs::server::Server& server_;
  server::Exports& exports_;
  Attributes attributes_;
};

}  // namespace rnbd::daemon
