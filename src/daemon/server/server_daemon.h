#pragma once
// rnbd-server put together: reactors, listeners, exports, admin socket. Made and stopped by main.

#include <memory>
#include <string>
#include <vector>

#include "daemon/admin/problem.h"
#include "daemon/config/config.h"

namespace rnbd::daemon {

class ServerDaemon final {
 public:
  // Listening when it returns.
  static Outcome<std::unique_ptr<ServerDaemon>> start(const Config& config);
  ~ServerDaemon();  // stops listening, lets running requests finish (bounded), closes every volume

  // Takes over what can change while we serve: log level, group, search path, exports. What is open
  // stays open. What cannot change now is named in the log.
  void reload(const Config& config);

  std::vector<std::string> listening() const;  // "ip:0.0.0.0 port 1234"
  const std::string& admin_socket() const;

 private:
  class Impl;
  explicit ServerDaemon(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace rnbd::daemon
