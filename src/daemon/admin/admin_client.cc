#include "daemon/admin/admin_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/unique_fd.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

using Clock = std::chrono::steady_clock;

Problem socket_problem(const std::string& path, int error) {
  std::string program = path.find("server") == std::string::npos ? "rnbd-client" : "rnbd-server";
  if (error == EACCES || error == EPERM)
    return {ProblemCode::refused, fmt::format("no permission to use the admin socket {}", path),
            "be root or in the socket's group", error};
  if (error == ENOENT || error == ECONNREFUSED)
    return {ProblemCode::unreachable, fmt::format("no daemon listens on {}", path),
            fmt::format("start {}, or name its socket with --socket or RNBD_SOCKET", program),
            error};
  return {code_of_errno(error),
          fmt::format("cannot use the admin socket {}: {}", path, std::strerror(error)), "", error};
}

Outcome<UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return usage_problem(fmt::format("the socket path {} is too long", path));
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return problem(socket_problem(path, errno));
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return problem(socket_problem(path, errno));
  // In /tmp anybody may have put a socket: only root and we ourselves are believed there.
  ucred peer{};
  socklen_t bytes = sizeof peer;
  const bool known = getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0;
  if (path.starts_with("/tmp/") && !(known && (peer.uid == 0 || peer.uid == geteuid())))
    return problem(socket_problem(path, EPERM));
  return fd;
}

// Waits for `events`; false when the deadline passed.
bool wait_for(int fd, short events, Clock::time_point deadline) {
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
  if (left <= 0) return false;
  pollfd entry{fd, events, 0};
  int ready = poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
  return ready > 0 || (ready < 0 && errno == EINTR);
}

}  // namespace

Outcome<AdminResponse> ask_daemon(const std::string& socket_path, const AdminRequest& request,
                                  Duration timeout) {
  auto deadline = Clock::now() + timeout;
  auto late = [&] {
    return problem({ProblemCode::unreachable,
                    fmt::format("the daemon at {} did not answer within {}", socket_path,
                                format_duration(timeout)),
                    "it goes on with the work; look at 'rnbd list' and its log", ETIMEDOUT});
  };
  auto fd = connect_to(socket_path);
  if (!fd) return tl::unexpected(fd.error());
  std::string line = encode(request) + "\n";
  if (line.size() > kAdminRequestMax) return usage_problem("the request is too long");
  for (std::size_t sent = 0; sent < line.size();) {
    ssize_t n = send(fd->get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {
      if (!wait_for(fd->get(), POLLOUT, deadline)) return late();
    } else if (errno != EINTR) {
      break;  // refused before it was read whole: the answer says why
    }
  }
  std::string answer;
  std::array<char, 65536> buffer{};
  while (answer.find('\n') == std::string::npos) {
    ssize_t n = recv(fd->get(), buffer.data(), buffer.size(), 0);
    if (n > 0) {
      answer.append(buffer.data(), static_cast<std::size_t>(n));
      if (answer.size() > kAdminResponseMax)
        return problem({ProblemCode::failed, "the daemon's answer is too long", "", 0});
    } else if (n == 0) {
      return problem({ProblemCode::unreachable,
                      fmt::format("the daemon at {} hung up without an answer", socket_path),
                      "look at its log", ECONNRESET});
    } else if (errno == EAGAIN) {
      if (!wait_for(fd->get(), POLLIN, deadline)) return late();
    } else if (errno != EINTR) {
      return problem(socket_problem(socket_path, errno));
    }
  }
  return decode_response(std::string_view(answer).substr(0, answer.find('\n')));
}

}  // namespace rnbd::daemon
