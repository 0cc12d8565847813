#include "daemon/admin/runtime.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>

namespace rnbd::daemon {
namespace {

constexpr const char* kSystemRuntimeDir = "/run/rnbd";

}  // namespace

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string runtime_dir() {
  if (geteuid() == 0) return kSystemRuntimeDir;
  if (std::string session = environment("XDG_RUNTIME_DIR"); session.starts_with('/'))
    return session + "/rnbd";
  return "/tmp/rnbd-" + std::to_string(geteuid());
}

std::string default_client_socket() { return runtime_dir() + "/client.sock"; }
std::string default_server_socket() { return runtime_dir() + "/server.sock"; }

std::string state_directory(const std::string& configured, const std::string& admin_socket,
                            const std::string& default_socket) {
  if (!configured.empty()) return configured;
  const std::string socket = admin_socket.empty() ? default_socket : admin_socket;
  if (socket == default_socket && runtime_dir() == kSystemRuntimeDir) return "/var/lib/rnbd";
  const std::size_t slash = socket.rfind('/');
  return slash == std::string::npos ? "." : socket.substr(0, std::max<std::size_t>(slash, 1));
}

std::string default_config_file() {
  std::string named = environment("RNBD_CONFIG");
  return named.empty() ? "/etc/rnbd/rnbd.toml" : named;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0') return "localhost";
  return name.data();
}

std::error_code make_directory(const std::string& path, unsigned mode) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    std::string part = path.substr(0, slash);
    bool last = slash == std::string::npos;
    if (mkdir(part.c_str(), last ? mode : 0755) != 0 && errno != EEXIST) return from_errno(errno);
    if (last) break;
  }
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return from_errno(errno);
  if (path.starts_with("/tmp/") && (!S_ISDIR(status.st_mode) || status.st_uid != geteuid()))
    return from_errno(EPERM);
  if (stat(path.c_str(), &status) != 0) return from_errno(errno);
  return S_ISDIR(status.st_mode) ? std::error_code() : from_errno(ENOTDIR);
}

}  // namespace rnbd::daemon
