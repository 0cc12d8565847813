#pragma once
// What the kernel knows of our file system: nodes by inode number, and open files. One thread.

#include <time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "daemon/tree/tree.h"

namespace rnbd::daemon {

struct Inode {
  std::uint64_t number = 0;
  std::uint64_t lookups = 0;
  std::string path{};
  NodeKind kind = NodeKind::directory;
  std::uint32_t mode = 0;
  std::uint32_t links = 1;
  std::string target{};
  timespec since{};
};

class Inodes final {
 public:
  static constexpr std::uint64_t kRoot = 1;
  Inodes() { clear(); }
  // The same node keeps its number while the kernel knows it; another kind of node of the same name
  // is another one.
  Inode& know(const Node& node);
  Inode* find(std::uint64_t number);
  void forget(std::uint64_t number, std::uint64_t lookups);
  void clear();  // all but the root

 private:
  static std::string key(const std::string& path, NodeKind kind);
  std::unordered_map<std::uint64_t, std::unique_ptr<Inode>> inodes_;
  std::unordered_map<std::string, Inode*> by_path_;
  std::uint64_t next_ = kRoot + 1;
};

struct OpenFile {
  std::string path{};
  std::string text{};  // what it reads, from its beginning until it is read from there again
  bool filled = false;
  Nodes children{};  // of a directory
  std::uint64_t inode = 0;
};

class OpenFiles final {
 public:
  std::uint64_t open(OpenFile file);
  OpenFile* find(std::uint64_t handle);
  void close(std::uint64_t handle) { files_.erase(handle); }
  void clear() { files_.clear(); }

 private:
  std::unordered_map<std::uint64_t, OpenFile> files_;
  std::uint64_t next_ = 1;
};

}  // namespace rnbd::daemon
