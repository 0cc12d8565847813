#include "frontend/fuse/mountpoint.h"

#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/log.h"

namespace rnbd::fuse {
namespace {

// Asks whoever shows it: attributes may be told from the kernel's cache even when nobody does any
// more. ECONNABORTED: the question was under way when its daemon died.
bool is_dead(const std::string& path) {
  struct statvfs st {};
  return ::statvfs(path.c_str(), &st) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain.push_back(static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8)));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

void run_fusermount(const std::string& path) {
  std::string program = "fusermount3", unmount = "-u", lazily = "-z", quietly = "-q", target = path;
  char* arguments[] = {program.data(), unmount.data(), lazily.data(),
                       quietly.data(), target.data(),  nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, "fusermount3", nullptr, nullptr, arguments, environ) != 0) return;
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace

void detach_if_dead(const std::string& path) {
  if (!is_dead(path)) return;
  log_info("fuse: {}: removing the mount of a daemon that is gone", printable(path));
  if (::umount2(path.c_str(), MNT_DETACH) != 0) run_fusermount(path);
}

bool is_mounted(const std::string& canonical_path) {
  std::ifstream file("/proc/self/mountinfo");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string id, parent, device, root, target;
    if (words >> id >> parent >> device >> root >> target && unescape(target) == canonical_path)
      return true;
  }
  return false;
}

Result<std::string> prepare_mountpoint(const std::string& path) {
  for (int layers = 0; layers < 8 && is_dead(path); ++layers) detach_if_dead(path);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno);
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return fail_errno(errno);
  if (!S_ISDIR(st.st_mode)) return fail_errno(ENOTDIR);
  char canonical[PATH_MAX];
  if (::realpath(path.c_str(), canonical) == nullptr) return fail_errno(errno);
  if (is_mounted(canonical)) return fail_errno(EBUSY);
  return std::string(canonical);
}

}  // namespace rnbd::fuse
