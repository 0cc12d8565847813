#include "frontend/nbd/listener.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace rnbd::nbd {
namespace {

constexpr int kBacklog = 128;

const sockaddr* generic(const void* address) { return static_cast<const sockaddr*>(address); }

// The ring of a process that was killed keeps its sockets for a moment longer than the process.
bool listener_died(int connected) {
  ucred listener{};
  socklen_t size = sizeof listener;
  return ::getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &listener, &size) == 0 &&
         listener.pid > 0 && ::kill(listener.pid, 0) != 0 && errno == ESRCH;
}

// Somebody answers at the socket file. A full backlog is an answer, too.
bool alive(const sockaddr_un& address) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!probe) return true;
  if (::connect(probe.get(), generic(&address), sizeof address) != 0) return errno != ECONNREFUSED;
  return !listener_died(probe.get());
}

// Makes way for our socket file, if what is there is a dead one.
std::error_code remove_stale(const sockaddr_un& address) {
  struct stat found {};
  if (::lstat(address.sun_path, &found) != 0)
    return errno == ENOENT ? std::error_code{} : from_errno(errno);
  if (!S_ISSOCK(found.st_mode)) return from_errno(EEXIST);
  if (alive(address)) return from_errno(EADDRINUSE);
  if (::unlink(address.sun_path) != 0 && errno != ENOENT) return from_errno(errno);
  return {};
}

}  // namespace

Result<UnixListener> UnixListener::create(std::string path, mode_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return fail_errno(ENAMETOOLONG);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (const auto error = remove_stale(address)) return fail(error);

  UnixListener listener;
  listener.socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener.socket_) return fail_errno(errno);
  // The file inherits the mode of the socket less the umask: never more open than asked, at no
  // time.
  if (::fchmod(listener.fd(), mode) != 0) return fail_errno(errno);
  if (::bind(listener.fd(), generic(&address), sizeof address) != 0) return fail_errno(errno);
  struct stat made {};
  if (::lstat(path.c_str(), &made) != 0) return fail_errno(errno);
  listener.path_ = std::move(path);
  listener.device_ = made.st_dev;
  listener.inode_ = made.st_ino;
  if (::chmod(listener.path_.c_str(), mode) != 0) return fail_errno(errno);
  if (::listen(listener.fd(), kBacklog) != 0) return fail_errno(errno);
  return listener;
}

void UnixListener::close() {
  if (!socket_) return;
  struct stat found {};
  if (!path_.empty() && ::lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ &&
      found.st_ino == inode_) {
    ::unlink(path_.c_str());
  }
  socket_.reset();
}

Result<UniqueFd> listen_on_loopback(std::uint16_t port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno);
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(socket.get(), generic(&address), sizeof address) != 0) return fail_errno(errno);
  if (::listen(socket.get(), kBacklog) != 0) return fail_errno(errno);
  return socket;
}

std::uint16_t bound_port(int socket) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  void* generic_address = &address;
  if (::getsockname(socket, static_cast<sockaddr*>(generic_address), &size) != 0) return 0;
  return ntohs(address.sin_port);
}

}  // namespace rnbd::nbd
