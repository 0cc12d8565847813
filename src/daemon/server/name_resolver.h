#pragma once
// From the name a client sends to an open file, and nowhere else: every name is taken beneath
// dev_search_path, whatever it looks like, and only regular files and block devices are opened. The
// system calls may block: call on a thread that may wait. Stateless but for its options; any
// thread.

#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace rnbd::daemon {

struct NameResolverOptions {
  // Where names are looked for. As the kernel's: "%SESSNAME%" stands for the session's name, and
  // what follows it is dropped. Empty: nothing is found.
  std::string dev_search_path;
  bool follow_symlinks = false;  // those that stay beneath the search path
};

struct ResolvedFile {
  UniqueFd handle;   // O_PATH: it names the file, whoever renames it; open it by reopen()
  std::string path;  // for logs
  bool block_device = false;
  // One file, one identity, whatever name led to it: "dev:ino" of a file, "block:major:minor" of a
  // device.
  std::string identity;
};

class NameResolver {
 public:
  explicit NameResolver(NameResolverOptions options) : options_(std::move(options)) {}

  // ENOENT: no such volume. EINVAL: "..", an empty or overlong name, a session name that may not
  // become a directory name. EACCES: the name leads out of the search path, or over a symbolic
  // link. ENOTBLK: there is something, but neither a regular file nor a block device.
  Result<ResolvedFile> resolve(const std::string& session, const std::string& name) const;

 private:
  NameResolverOptions options_;
};

// A path configured by the administrator (an [[export]]), taken as it is.
Result<ResolvedFile> resolve_configured(const std::string& path);

// Opens what the handle names with open(2) flags of one's own; never blocks on it, never becomes a
// terminal.
Result<UniqueFd> reopen(const ResolvedFile& file, int flags);

}  // namespace rnbd::daemon
