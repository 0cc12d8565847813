#pragma once
// The daemons a command asks: which socket is meant, and what they answer.

#include <string>

#include "app/cli/command.h"
#include "app/cli/structured.h"
#include "daemon/admin/protocol.h"

namespace rnbd::cli {

class Daemons final {
 public:
  // Problem: the configuration named by --config cannot be read.
  static daemon::Outcome<Daemons> of(const Command& command);

  // Asks the daemon the command is for: the one named, else the one that has such a command, else
  // rnbd-client, else, where none runs, rnbd-server. What it refuses is a problem like any other.
  daemon::Outcome<daemon::AdminResponse> ask(const daemon::AdminRequest& request) const;
  daemon::Outcome<daemon::AdminResponse> ask_server(const daemon::AdminRequest& request) const;
  // Both, as far as they run; the problem of the first when none does. With one named: that one.
  daemon::Outcome<Answers> ask_both(const daemon::AdminRequest& request) const;

  // The socket `ask` would use, as far as one can tell without asking.
  const std::string& socket() const;
  const std::string& client_socket() const { return client_; }
  const std::string& server_socket() const { return server_; }

 private:
  explicit Daemons(const Command& command) : command_(command) {}
  bool one_is_meant() const;

  Command command_;
  bool named_ = false;  // with --socket or RNBD_SOCKET
  std::string client_;
  std::string server_;
};

// That the daemon is one of a server.
inline bool of_server(const daemon::AdminResponse& answer) {
  return answer.daemon.program == "rnbd-server";
}

}  // namespace rnbd::cli
