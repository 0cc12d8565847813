#include "fabric/iwarp/socket.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace rnbd::fabric::iwarp {
namespace {

constexpr int kUnixBuffer = 1 << 20;  // its default holds less than two frames of ours

void set_option(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof value);
}

Address name_of(int fd, int (*get)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  auto* address = reinterpret_cast<sockaddr*>(&storage);
  if (get(fd, address, &length) != 0) return {};
  return Address::from_sockaddr(address, length);
}

}  // namespace

Result<UniqueFd> make_socket(int family) {
  if (family != AF_INET && family != AF_INET6 && family != AF_UNIX) return fail_errno(EAFNOSUPPORT);
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno(errno);
  return fd;
}

void tune_socket(int fd, int family, const Options& options) {
  const int buffer = options.socket_buffer != 0 ? options.socket_buffer
                     : family == AF_UNIX        ? kUnixBuffer
                                                : 0;
  if (buffer != 0) {
    // The forced form passes the administrator's limit, where we may.
    for (const auto& [forced, plain] :
         {std::pair{SO_SNDBUFFORCE, SO_SNDBUF}, {SO_RCVBUFFORCE, SO_RCVBUF}}) {
      if (::setsockopt(fd, SOL_SOCKET, forced, &buffer, sizeof buffer) != 0) {
        set_option(fd, SOL_SOCKET, plain, buffer);
      }
    }
  }
  if (family == AF_UNIX) return;
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  const auto timeout =
      std::chrono::duration_cast<std::chrono::milliseconds>(options.user_timeout).count();
  if (timeout > 0) {
    constexpr decltype(timeout) most = std::numeric_limits<int>::max();
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(std::min(timeout, most)));
  }
}

Address local_address_of(int fd) { return name_of(fd, ::getsockname); }
Address peer_address_of(int fd) { return name_of(fd, ::getpeername); }

std::error_code socket_error(int fd) {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  return from_errno(error);
}

std::error_code send_all(int fd, std::span<const std::byte> bytes) {
  const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent < 0) return from_errno(errno);
  return static_cast<std::size_t>(sent) == bytes.size() ? std::error_code{} : from_errno(ENOBUFS);
}

void abort_socket(UniqueFd fd) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  // Disconnecting TCP sends the reset and drops the queue now, whoever else holds the file.
  const sockaddr nowhere{.sa_family = AF_UNSPEC, .sa_data = {}};
  if (::connect(fd.get(), &nowhere, sizeof nowhere) != 0) ::shutdown(fd.get(), SHUT_RDWR);
}

std::optional<std::size_t> segment_size_of(int fd, int family) {
  if (family == AF_UNIX) return std::nullopt;
  int size = 0;
  socklen_t length = sizeof size;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &size, &length) != 0 || size <= 0)
    return std::nullopt;
  return static_cast<std::size_t>(size);
}

}  // namespace rnbd::fabric::iwarp
