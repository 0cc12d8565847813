#include "raw.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <deque>
#include <vector>

#include "measure.h"

namespace rnbd::bench {
namespace {

constexpr std::uint32_t kHeader = 64;
constexpr std::size_t kBatchBytes = std::size_t{1} << 20;

struct Shape {
  explicit Shape(const RawOptions& o)
      : request(o.write ? kHeader + o.size : kHeader),
        answer(o.write ? kHeader : kHeader + o.size) {}
  std::size_t request, answer;
};

ssize_t receive(int fd, std::vector<char>& buffer, bool spin) {
  for (;;) {
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), spin ? MSG_DONTWAIT : 0);
    if (got >= 0 || (errno != EAGAIN && errno != EINTR)) return got;
  }
}

bool send_all(int fd, const char* data, std::size_t bytes) {
  while (bytes > 0) {
    const ssize_t sent = ::send(fd, data, bytes, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    data += sent;
    bytes -= static_cast<std::size_t>(sent);
  }
  return true;
}

// Answers until the client hangs up.
void serve(int fd, const RawOptions& options) {
  const Shape shape(options);
  std::vector<char> in(kBatchBytes);
  std::vector<char> out(shape.answer * options.depth);  // the client never has more under way
  std::size_t pending = 0;
  for (;;) {
    const ssize_t got = receive(fd, in, options.spin);
    if (got <= 0) return;
    pending += static_cast<std::size_t>(got);
    const std::size_t answers = pending / shape.request;
    pending %= shape.request;
    if (answers > 0 && !send_all(fd, out.data(), answers * shape.answer)) return;
  }
}

// Keeps `depth` requests under way until the time is over.
Row drive(int fd, const RawOptions& options, pid_t server) {
  const Shape shape(options);
  std::vector<char> in(kBatchBytes), out(shape.request * options.depth);
  std::deque<std::int64_t> sent;
  Row row;
  std::size_t pending = 0;
  std::size_t due = options.depth;
  const auto begin = now_ns();
  const auto warm = begin + 300'000'000;
  const auto end = warm + static_cast<std::int64_t>(options.seconds * 1e9);
  std::int64_t cpu = 0, started = 0;
  for (;;) {
    const auto t = now_ns();
    if (started == 0 && t >= warm) {
      started = t;
      cpu = process_cpu_ns(getpid()) + process_cpu_ns(server);
      row.latency.clear();
    }
    if (t >= end) break;
    if (due > 0) {
      for (std::size_t i = 0; i < due; ++i) sent.push_back(t);
      if (!send_all(fd, out.data(), due * shape.request)) break;
    }
    const ssize_t got = receive(fd, in, options.spin);
    if (got <= 0) break;
    pending += static_cast<std::size_t>(got);
    due = pending / shape.answer;
    pending %= shape.answer;
    const auto arrived = now_ns();
    for (std::size_t i = 0; i < due; ++i) {
      row.latency.add(arrived - sent.front());
      sent.pop_front();
    }
  }
  row.ios = row.latency.count();
  row.seconds = static_cast<double>(now_ns() - started) / 1e9;
  cpu = process_cpu_ns(getpid()) + process_cpu_ns(server) - cpu;
  row.cpu_us_per_io =
      static_cast<double>(cpu) / 1e3 / static_cast<double>(std::max<std::uint64_t>(row.ios, 1));
  return row;
}

bool tcp_pair(int fds[2]) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || ::bind(listener, generic, length) != 0 || ::listen(listener, 1) != 0)
    return false;
  ::getsockname(listener, generic, &length);
  fds[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fds[0], generic, length) != 0) return false;
  fds[1] = ::accept(listener, nullptr, nullptr);
  ::close(listener);
  const int on = 1;
  for (int i = 0; i < 2; ++i) ::setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fds[1] >= 0;
}

}  // namespace

int run_raw(const RawOptions& options) {
  int fds[2] = {-1, -1};
  const bool connected =
      options.unix_socket ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0 : tcp_pair(fds);
  if (!connected) {
    std::perror("rnbd-bench: raw: cannot connect a socket pair");
    return 1;
  }
  const pid_t server = ::fork();
  if (server == 0) {
    ::close(fds[0]);
    pin_to(options.server_cpu);
    serve(fds[1], options);
    ::_exit(0);
  }
  ::close(fds[1]);
  pin_to(options.client_cpu);
  Row row = drive(fds[0], options, server);
  row.what = "raw";
  row.size = options.size;
  ::close(fds[0]);
  ::waitpid(server, nullptr, 0);
  print_row(row);
  return row.ios > 0 ? 0 : 1;
}

}  // namespace rnbd::bench
