#pragma once
// The admin socket of a daemon: a Unix stream socket, mode 0660, on a thread of its own. Every
// command is checked against the peer's credentials (root, our own uid, or the socket's group). A
// handler answers now or later, from any thread; a connection's requests are answered one at a
// time, in order. A connection that asks for events gets a line for each from then on, until it
// ends; one that reads too slowly misses some and is told how many.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

using AdminReply = std::function<void(AdminResponse)>;
// Called on the admin thread; `reply` may be called once from any thread, also after the server is
// gone.
using AdminHandler = std::function<void(AdminRequest request, AdminReply reply)>;

struct AdminServerOptions {
  std::string path;
  std::string group;  // name or number of the group that may use it besides root; empty: none
};

class AdminServer final {
 public:
  // EADDRINUSE when a live daemon listens there; a dead one's socket is replaced, one handed over
  // by the service manager is used.
  static Result<std::unique_ptr<AdminServer>> create(const AdminServerOptions& options,
                                                     AdminHandler handler);
  ~AdminServer();  // stops the thread; unanswered requests are dropped
  // Another group from now on; of a socket that is not ours the file keeps its own.
  std::error_code set_group(const std::string& group);

 private:
  class Impl;
  explicit AdminServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<Impl> impl_;  // shared with replies still to come, which may outlive the server
};

inline constexpr gid_t kNoGroup = static_cast<gid_t>(-1);
// By name or number; kNoGroup for an empty name.
Result<gid_t> find_group(const std::string& group);

// Whether a peer with these credentials may command a daemon of `own_uid` whose socket has group
// `group`.
bool may_administer(uid_t peer_uid, gid_t peer_gid, uid_t own_uid, gid_t group);

}  // namespace rnbd::daemon
