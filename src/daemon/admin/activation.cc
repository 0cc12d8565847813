#include "daemon/admin/activation.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <optional>
#include <string_view>

#include "daemon/admin/runtime.h"

namespace rnbd::daemon {
namespace {

constexpr int kFirst = 3;  // SD_LISTEN_FDS_START
constexpr int kMost = 64;

std::optional<int> number_in(const char* variable) {
  const std::string text = environment(variable);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool listens_at(int fd, const std::string& path) {
  int listens = 0;
  socklen_t size = sizeof listens;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return false;
  int type = 0;
  size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_STREAM) return false;
  sockaddr_un address{};
  size = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return false;
  if (address.sun_family != AF_UNIX || size <= offsetof(sockaddr_un, sun_path)) return false;
  return std::string_view(address.sun_path) == path;
}

}  // namespace

UniqueFd take_activated_socket(const std::string& path) {
  if (number_in("LISTEN_PID") != static_cast<int>(getpid())) return UniqueFd();
  const int count = number_in("LISTEN_FDS").value_or(0);
  for (int fd = kFirst; count <= kMost && fd < kFirst + count; ++fd) {
    const int flags = fcntl(fd, F_GETFD);
    // What is taken already is closed on exec.
    if (flags < 0 || (flags & FD_CLOEXEC) != 0 || !listens_at(fd, path)) continue;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0) continue;
    return UniqueFd(fd);
  }
  return UniqueFd();
}

}  // namespace rnbd::daemon
