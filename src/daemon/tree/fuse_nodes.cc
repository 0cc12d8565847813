#include "daemon/tree/fuse_nodes.h"

#include <utility>

namespace rnbd::daemon {

std::string Inodes::key(const std::string& path, NodeKind kind) {
  return path + '\0' + node_kind_name(kind);
}

Inode& Inodes::know(const Node& node) {
  const std::string name = key(node.path, node.kind);
  auto at = by_path_.find(name);
  if (at == by_path_.end()) {
    auto inode = std::make_unique<Inode>();
    inode->number = next_++;
    inode->path = node.path;
    inode->kind = node.kind;
    clock_gettime(CLOCK_REALTIME, &inode->since);
    at = by_path_.emplace(name, inode.get()).first;
    inodes_.emplace(inode->number, std::move(inode));
  }
  Inode& inode = *at->second;
  inode.mode = node.mode;
  if (node.kind == NodeKind::link) inode.target = node.text;
  return inode;
}

Inode* Inodes::find(std::uint64_t number) {
  const auto at = inodes_.find(number);
  return at == inodes_.end() ? nullptr : at->second.get();
}

void Inodes::forget(std::uint64_t number, std::uint64_t lookups) {
  Inode* inode = find(number);
  if (inode == nullptr || number == kRoot) return;
  inode->lookups -= std::min(lookups, inode->lookups);
  if (inode->lookups != 0) return;
  by_path_.erase(key(inode->path, inode->kind));
  inodes_.erase(number);
}

void Inodes::clear() {
  inodes_.clear();
  by_path_.clear();
  auto root = std::make_unique<Inode>();
  root->number = kRoot;
  root->mode = 0755;
  root->links = 2;
  clock_gettime(CLOCK_REALTIME, &root->since);
  by_path_.emplace(key("", NodeKind::directory), root.get());
  inodes_.emplace(kRoot, std::move(root));
}

std::uint64_t OpenFiles::open(OpenFile file) {
  files_.emplace(next_, std::move(file));
  return next_++;
}

OpenFile* OpenFiles::find(std::uint64_t handle) {
  const auto at = files_.find(handle);
  return at == files_.end() ? nullptr : &at->second;
}

}  // namespace rnbd::daemon
