#pragma once
// rnbd-client put together: reactors, frontends, the manager of what is mapped, admin socket. Made
// and stopped by main.

#include <memory>
#include <string>

#include "daemon/admin/problem.h"
#include "daemon/config/config.h"

namespace rnbd::daemon {

class ClientDaemon final {
 public:
  // Taking commands when it returns.
  static Outcome<std::unique_ptr<ClientDaemon>> start(const Config& config);
  ~ClientDaemon();  // closes every volume on its server, bounded in time

  // Takes over what can change while volumes are mapped: log level, group, and what new sessions
  // and volumes are made with. What cannot change now is named in the log.
  void reload(const Config& config);

  // The machine goes down: from now on servers that are away are waited for no longer than
  // shutdown_timeout, and the end leaves nothing, as there is no next daemon.
  void power_down();

  const std::string& admin_socket() const;

 private:
  class Impl;
  explicit ClientDaemon(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rnbd::daemon
