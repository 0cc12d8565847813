#include <arpa/inet.h>
#include <fmt/format.h>

#include <cerrno>
#include <string>

#include "base/log.h"
#include "daemon/admin/map_request.h"

namespace rnbd::daemon {
namespace {

// AF_UNIX paths have 108 bytes with the terminating zero.
constexpr std::size_t kUnixPathMax = 107;

bool is_ip(std::string_view text) {
  std::string address(text.substr(0, text.find('%')));  // an interface may follow: fe80::1%eth0
  in6_addr parsed{};
  bool ok = inet_pton(AF_INET6, address.c_str(), &parsed) == 1;
  return ok || (address.size() == text.size() && inet_pton(AF_INET, address.c_str(), &parsed) == 1);
}

bool is_gid(std::string_view text) {
  std::string address(text);
  in6_addr parsed{};
  return inet_pton(AF_INET6, address.c_str(), &parsed) == 1;
}

bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  for (char c : text) {
    bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '.' || c == '_';
    if (!ok) return false;
  }
  return true;
}

Outcome<void> check_address(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return usage_problem(fmt::format("cannot parse the address '{}'", printable(text)),
                         std::string(why));
  };
  if (text.starts_with("ip:")) {
    if (!is_ip(text.substr(3)))
      return bad("ip: takes an IPv4 or IPv6 address; names go behind host:");
    return {};
  }
  for (std::string_view prefix : {"rdma:", "tcp:"}) {
    if (!text.starts_with(prefix)) continue;
    std::string_view host = text.substr(prefix.size());
    if (!is_ip(host) && !is_host_name(host))
      return bad(fmt::format("{} takes an IPv4 or IPv6 address, or a host name", prefix));
    return {};
  }
  if (text.starts_with("gid:")) {
    if (!is_gid(text.substr(4))) return bad("gid: takes a GID in IPv6 notation");
    return {};
  }
  if (text.starts_with("unix:")) {
    std::string_view path = text.substr(5);
    if (!path.starts_with('/') || path.size() > kUnixPathMax)
      return bad("unix: takes an absolute path of at most 107 bytes");
    return {};
  }
  if (text.starts_with("host:")) {
    if (!is_host_name(text.substr(5))) return bad("host: takes a host name");
    return {};
  }
  std::string hint =
      "ip:10.0.0.1, ip:fd00::1, rdma:10.0.0.1, tcp:10.0.0.1, host:name or unix:/path";
  if (is_ip(text)) hint = fmt::format("write ip:{}", text);
  return usage_problem(fmt::format("the address '{}' has no prefix we know", printable(text)), hint,
                       EPROTONOSUPPORT);
}

}  // namespace

Outcome<PathSpec> parse_path_spec(std::string_view text, std::uint16_t port) {
  PathSpec path{.source = {}, .destination = std::string(text), .port = port};
  // A comma is looked for first, then '@'. A Unix path may contain both and has no source.
  if (!text.starts_with("unix:")) {
    std::size_t split = text.find(',');
    if (split == std::string_view::npos) split = text.find('@');
    if (split != std::string_view::npos) {
      path.source = text.substr(0, split);
      path.destination = text.substr(split + 1);
      auto source = check_address(path.source);
      if (!source) return usage_problem(source.error().what, source.error().hint, EINVAL);
    }
  }
  if (auto checked = check_address(path.destination); !checked)
    return tl::unexpected(checked.error());
  if (path.destination.starts_with("unix:")) path.port = kDefaultPort;  // it has none
  return path;
}

std::string to_text(const PathSpec& path) {
  // Not '@': an interface's name (fe80::1%eth@0) may contain one, and a comma is looked for first.
  return path.source.empty() ? path.destination : path.source + "," + path.destination;
}

std::string default_session_name(std::string_view client_host, const PathSpec& path) {
  std::string_view server = path.destination;
  bool is_unix = server.starts_with("unix:");
  if (is_unix) {
    server = "local";
  } else {
    server.remove_prefix(server.find(':') + 1);
  }
  std::string name = fmt::format("{}@{}", client_host.substr(0, client_host.find('.')), server);
  if (!is_unix && path.port != kDefaultPort) name += fmt::format(":{}", path.port);
  for (char& c : name) {
    bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_' || c == ':' || c == '@';
    if (!ok) c = c == '.' ? '-' : '_';
  }
  return name.substr(0, kNameBytesMax);
}

SessionHosts hosts_of_session_name(std::string_view name) {
  const std::size_t at = name.find('@');
  if (at == std::string_view::npos) return {};
  return {std::string(name.substr(0, at)), std::string(name.substr(at + 1))};
}

}  // namespace rnbd::daemon
