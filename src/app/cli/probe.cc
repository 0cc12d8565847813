#include "app/cli/probe.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"

namespace rnbd::cli {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const Endpoint& endpoint, int type, int& error) {
  addrinfo hints{};
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  error = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
  return {found, &freeaddrinfo};
}

bool same_address(const sockaddr* a, const sockaddr* b) {
  if (a->sa_family != b->sa_family) return false;
  if (a->sa_family == AF_INET)
    return std::memcmp(&reinterpret_cast<const sockaddr_in*>(a)->sin_addr,
                       &reinterpret_cast<const sockaddr_in*>(b)->sin_addr, sizeof(in_addr)) == 0;
  return a->sa_family == AF_INET6 &&
         std::memcmp(&reinterpret_cast<const sockaddr_in6*>(a)->sin6_addr,
                     &reinterpret_cast<const sockaddr_in6*>(b)->sin6_addr, sizeof(in6_addr)) == 0;
}

// 0 when it connects.
int connect_to(const addrinfo& address, Duration timeout) {
  UniqueFd fd(socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno;
  if (connect(fd.get(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd entry{fd.get(), POLLOUT, 0};
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  if (poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(ms, 3'600'000))) <= 0)
    return ETIMEDOUT;
  int error = 0;
  socklen_t bytes = sizeof error;
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &bytes);
  return error;
}

}  // namespace

Endpoint endpoint_of(std::string_view text, std::uint16_t port) {
  Endpoint endpoint{"", std::to_string(port)};
  if (text.starts_with("unix:") || text.starts_with("gid:") || text.empty()) return endpoint;
  bool prefixed = false;
  for (std::string_view prefix : {"ip:", "host:", "tcp:", "rdma:"})
    if (text.starts_with(prefix)) {
      text.remove_prefix(prefix.size());
      prefixed = true;
      break;
    }
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return endpoint;
    endpoint.host = text.substr(1, end - 1);
    if (text.substr(end + 1).starts_with(':')) endpoint.port = text.substr(end + 2);
    return endpoint;
  }
  const std::size_t colon = text.find(':');
  const bool one = colon != std::string_view::npos && text.find(':', colon + 1) == text.npos;
  if (one && !prefixed && colon + 1 < text.size()) {
    endpoint.port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  endpoint.host = text;
  return endpoint;
}

std::string interface_to(const Endpoint& endpoint) {
  int error = 0;
  const Addresses found = resolve(endpoint, SOCK_DGRAM, error);
  if (error != 0 || !found) return "";
  UniqueFd fd(socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage ours{};
  socklen_t bytes = sizeof ours;
  // Connecting a datagram socket sends nothing: it chooses the route.
  if (!fd || connect(fd.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      getsockname(fd.get(), reinterpret_cast<sockaddr*>(&ours), &bytes) != 0)
    return "";
  ifaddrs* all = nullptr;
  if (getifaddrs(&all) != 0) return "";
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owned(all, &freeifaddrs);
  for (const ifaddrs* at = all; at != nullptr; at = at->ifa_next)
    if (at->ifa_addr != nullptr && same_address(at->ifa_addr, reinterpret_cast<sockaddr*>(&ours)))
      return at->ifa_name;
  return "";
}

daemon::Outcome<void> try_connect(const Endpoint& endpoint, Duration timeout) {
  int error = 0;
  const Addresses found = resolve(endpoint, SOCK_STREAM, error);
  if (error != 0 || !found)
    return daemon::problem(
        {daemon::ProblemCode::unreachable,
         fmt::format("'{}' cannot be resolved: {}", printable(endpoint.host), gai_strerror(error)),
         "", 0});
  int reason = 0;
  for (const addrinfo* at = found.get(); at != nullptr; at = at->ai_next) {
    reason = connect_to(*at, timeout);
    if (reason == 0) return {};
  }
  return daemon::problem(
      {daemon::ProblemCode::unreachable,
       fmt::format("{} port {}: {}", endpoint.host, endpoint.port, std::strerror(reason)), "",
       reason});
}

}  // namespace rnbd::cli
