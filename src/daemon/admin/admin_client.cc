#include "daemon/admin/admin_client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

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

// One line without its newline; nothing when none came before the deadline.
Outcome<std::optional<std::string>> read_line(const std::string& socket_path, int fd,
                                              std::string& input, Clock::time_point deadline) {
  std::array<char, 65536> buffer{};
  std::size_t searched = 0;
  for (;;) {
    const std::size_t end = input.find('\n', searched);
    if (end != std::string::npos) {
      std::string line = input.substr(0, end);
      input.erase(0, end + 1);
      return line;
    }
    searched = input.size();
    if (input.size() > kAdminResponseMax)
      return problem({ProblemCode::failed, "the daemon's answer is too long", "", 0});
    ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n > 0) {
      input.append(buffer.data(), static_cast<std::size_t>(n));
    } else if (n == 0) {
      return problem({ProblemCode::unreachable,
                      fmt::format("the daemon at {} hung up", socket_path), "look at its log",
                      ECONNRESET});
    } else if (errno == EAGAIN) {
      if (!wait_for(fd, POLLIN, deadline)) return std::nullopt;
    } else if (errno != EINTR) {
      return problem(socket_problem(socket_path, errno));
    }
  }
}

Outcome<AdminResponse> ask(const std::string& socket_path, int fd, const AdminRequest& request,
                           Duration timeout, std::string& input) {
  auto deadline = Clock::now() + timeout;
  auto late = [&] {
    return problem({ProblemCode::unreachable,
                    fmt::format("the daemon at {} did not answer within {}", socket_path,
                                format_duration(timeout)),
                    "it goes on with the work; look at 'rnbd list' and its log", ETIMEDOUT});
  };
  std::string line = encode(request) + "\n";
  if (line.size() > kAdminRequestMax) return usage_problem("the request is too long");
  for (std::size_t sent = 0; sent < line.size();) {
    ssize_t n = send(fd, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
    } else if (errno == EAGAIN) {
      if (!wait_for(fd, POLLOUT, deadline)) return late();
    } else if (errno != EINTR) {
      break;  // refused before it was read whole: the answer says why
    }
  }
  auto answer = read_line(socket_path, fd, input, deadline);
  if (!answer) return tl::unexpected(answer.error());
  if (!*answer) return late();
  return decode_response(**answer);
}

}  // namespace

Outcome<AdminResponse> ask_daemon(const std::string& socket_path, const AdminRequest& request,
                                  Duration timeout) {
  auto fd = connect_to(socket_path);
  if (!fd) return tl::unexpected(fd.error());
  std::string input;
  return ask(socket_path, fd->get(), request, timeout, input);
}

Outcome<EventStream> EventStream::open(const std::string& socket_path, Duration timeout) {
  auto fd = connect_to(socket_path);
  if (!fd) return tl::unexpected(fd.error());
  std::string input;
  auto answer = ask(socket_path, fd->get(), {.command = AdminCommand::events}, timeout, input);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->error) return problem(*answer->error);
  return EventStream(socket_path, std::move(*fd), std::move(input));
}

Outcome<std::optional<EventView>> EventStream::next(Duration timeout) {
  auto line = read_line(socket_path_, fd_.get(), input_, Clock::now() + timeout);
  if (!line) return tl::unexpected(line.error());
  if (!*line) return std::nullopt;
  auto event = decode_event(**line);
  if (!event) return tl::unexpected(event.error());
  return std::move(*event);
}

}  // namespace rnbd::daemon
