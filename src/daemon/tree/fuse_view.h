#pragma once
// The attribute tree as a file system, the own side and the other daemon's in one root
// (docs/decisions/0010). Both daemons are given the same mount point: the one that holds its lock
// shows the tree, the other stands by and takes over when that ends or dies. On a thread of its
// own; nothing here waits for another thread, and no request outlives the mount.

#include <memory>
#include <string>

#include "daemon/config/config.h"
#include "daemon/tree/attributes.h"

namespace rnbd::daemon {

struct FuseViewOptions {
  std::string mountpoint{};   // absolute; made if missing, a dead mount found there is replaced
  std::string peer_socket{};  // admin socket of the other daemon; empty: only our own side is shown
  std::string group{};        // may write as root may; empty: none
  Side own = Side::client;
  // Calls with the attributes of our own side, on the loop they live on; now or later, or never.
  std::function<void(std::function<void(Attributes&)>)> on_home{};
  LastCommandPtr last_command{};  // of our own side
};

class FuseView final {
 public:
  // Tries to mount at once. What hinders it is a warning in the log, and tried again while another
  // daemon has the place.
  static std::unique_ptr<FuseView> start(FuseViewOptions options);
  ~FuseView();  // answers what waits with ENODEV, unmounts, ends the thread

 private:
  class Impl;
  explicit FuseView(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// The same as configured: nothing when the tree is off. `usual`: our admin socket lies where it
// does when nobody says otherwise, and so does the `usual_peer`'s.
std::unique_ptr<FuseView> show_tree(const TreeConfig& config, bool usual,
                                    const std::string& usual_peer, FuseViewOptions options);

}  // namespace rnbd::daemon
