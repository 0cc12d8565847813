#pragma once
// The calls of libfuse on the attribute tree. Every call that needs the daemons' state leaves its
// request in a table and is answered when that came, or when the caller was interrupted, whichever
// is first. One thread.

#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/tree/fuse_nodes.h"
#include "daemon/tree/tree.h"
#include "frontend/fuse/fuse_api.h"

namespace rnbd::daemon {

// Where nodes come from and writes go to. Answers on the same thread, also from inside the call.
class TreeAccess {
 public:
  virtual ~TreeAccess() = default;
  virtual void look(const std::string& path, Depth depth,
                    std::function<void(const Nodes&)> told) = 0;
  virtual void write(const std::string& path, std::string text,
                     std::function<void(int error)> done) = 0;
};

struct TreeOwner {
  uid_t uid = 0;
  gid_t gid = 0;
  bool group_writes = false;
};

class FuseTree final {
 public:
  FuseTree(TreeAccess& access, TreeOwner owner) : access_(access), owner_(owner) {}

  static const fuse_lowlevel_ops& operations();  // userdata is the FuseTree
  // After requests were taken in: those who gave up waiting are answered.
  void answer_interrupted();
  // The mount ends: everybody is answered, everything forgotten.
  void end(int error);

 private:
  friend struct TreeOperations;
  struct Waiting {
    std::uint64_t id = 0;
    fuse_req_t request = nullptr;
    FuseTree* tree = nullptr;
  };
  std::uint64_t wait(fuse_req_t request);
  // The request, if it still waits; it is the caller's to answer then.
  fuse_req_t take(std::uint64_t id);
  static void on_interrupt(fuse_req_t request, void* waiting);
  struct stat attributes(const Inode& inode) const;
  void reply_entry(fuse_req_t request, const Nodes& nodes, const std::string& path);
  void reply_attributes(fuse_req_t request, std::uint64_t number);

  TreeAccess& access_;
  const TreeOwner owner_;
  Inodes inodes_;
  OpenFiles files_;
  std::unordered_map<std::uint64_t, Waiting> waiting_;
  std::vector<std::uint64_t> interrupted_;
  std::uint64_t last_id_ = 0;
};

}  // namespace rnbd::daemon
