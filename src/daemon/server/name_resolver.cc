#include "daemon/server/name_resolver.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace rnbd::daemon {
namespace {

constexpr std::string_view kSessionMark = "%SESSNAME%";

// A session's name becomes a directory's name only in these characters.
bool fit_for_directory(const std::string& session) {
  if (session.empty() || session.size() > NAME_MAX) return false;
  return std::all_of(session.begin(), session.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == ':' || c == '@' || c == '-';
  });
}

// The name below the search path: an absolute one is taken beneath it too.
Result<std::string> relative_name(const std::string& name) {
  if (name.size() >= PATH_MAX || name.find('\0') != std::string::npos) return fail_errno(EINVAL);
  if (name.find("..") != std::string::npos) return fail_errno(EINVAL);
  std::size_t first = name.find_first_not_of('/');
  if (first == std::string::npos) return fail_errno(EINVAL);
  return name.substr(first);
}

// What a client is told: it may not learn what lies outside, nor of links.
int told(int error) { return error == EXDEV || error == ELOOP ? EACCES : error; }

Result<UniqueFd> open_beneath(int directory, const std::string& name, int flags, bool follow) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags | O_PATH | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | (follow ? 0U : RESOLVE_NO_SYMLINKS);
  // EAGAIN: a rename raced with us below the directory; the kernel asks to try again.
  for (int attempt = 0; attempt < 64; ++attempt) {
    long fd = syscall(SYS_openat2, directory, name.c_str(), &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EAGAIN && errno != EINTR) break;
  }
  return fail_errno(told(errno));
}

Result<ResolvedFile> inspect(UniqueFd handle, std::string path) {
  struct stat status {};
  if (fstat(handle.get(), &status) != 0) return fail_errno(errno);
  ResolvedFile file;
  file.block_device = S_ISBLK(status.st_mode);
  if (!file.block_device && !S_ISREG(status.st_mode)) return fail_errno(ENOTBLK);
  file.identity = file.block_device
                      ? fmt::format("block:{}:{}", major(status.st_rdev), minor(status.st_rdev))
                      : fmt::format("{}:{}", status.st_dev, status.st_ino);
  file.handle = std::move(handle);
  file.path = std::move(path);
  return file;
}

}  // namespace

Result<ResolvedFile> NameResolver::resolve(const std::string& session,
                                           const std::string& name) const {
  auto relative = relative_name(name);
  if (!relative) return fail(relative.error());
  std::string base = options_.dev_search_path;
  if (base.empty()) return fail_errno(ENOENT);
  if (base.size() + name.size() >= PATH_MAX) return fail_errno(EINVAL);
  std::size_t mark = base.find(kSessionMark);
  bool per_session = mark != std::string::npos;
  if (per_session) {
    if (!fit_for_directory(session)) return fail_errno(EINVAL);
    base.resize(mark);
  }
  UniqueFd directory(open(base.empty() ? "." : base.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) return fail_errno(errno);
  if (per_session) {
    auto own = open_beneath(directory.get(), session, O_DIRECTORY, false);
    if (!own) return fail(own.error());
    directory = std::move(*own);
    base += session;
  }
  auto handle = open_beneath(directory.get(), *relative, 0, options_.follow_symlinks);
  if (!handle) return fail(handle.error());
  return inspect(std::move(*handle), base + "/" + *relative);
}

Result<ResolvedFile> resolve_configured(const std::string& path) {
  UniqueFd handle(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!handle) return fail_errno(errno);
  return inspect(std::move(handle), path);
}

Result<UniqueFd> reopen(const ResolvedFile& file, int flags) {
  std::string path = fmt::format("/proc/self/fd/{}", file.handle.get());
  UniqueFd fd(open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) return fail_errno(errno);
  return fd;
}

}  // namespace rnbd::daemon
