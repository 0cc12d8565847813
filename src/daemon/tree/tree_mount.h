#pragma once
// The mount of the tree: at most one daemon of a machine has it, by a lock beside the mount point.

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

struct fuse_session;

namespace rnbd::daemon {

class FuseTree;

class TreeMount final {
 public:
  explicit TreeMount(std::string mountpoint) : mountpoint_(std::move(mountpoint)) {}
  ~TreeMount();
  TreeMount(const TreeMount&) = delete;
  TreeMount& operator=(const TreeMount&) = delete;

  // EWOULDBLOCK while another daemon has the place. A dead mount there is replaced.
  std::error_code mount(FuseTree& tree, bool for_all_users);
  void unmount();  // not from a thread that is below the mount point
  bool mounted() const { return session_ != nullptr; }
  int fd() const;
  // Takes requests in until there are no more for now; false when somebody else unmounted us.
  bool receive();

  const std::string& path() const { return mountpoint_; }

 private:
  std::error_code lock();

  std::string mountpoint_;
  UniqueFd lock_;
  fuse_session* session_ = nullptr;
  void* buffer_ = nullptr;  // libfuse's, grown by it
};

}  // namespace rnbd::daemon
