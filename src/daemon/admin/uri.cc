// rnbd-uri: modelled on the NBD URI. The volume is the path without its first slash,
// percent-decoded.

#include <fmt/format.h>

#include <array>
#include <optional>

#include "base/log.h"
#include "daemon/admin/map_request.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

constexpr std::array<std::string_view, 4> kSchemes{"rnbd", "rnbd+rdma", "rnbd+tcp", "rnbd+unix"};
constexpr std::array<std::string_view, 5> kQueryKeys{"sess", "path", "mode", "src", "socket"};
constexpr std::size_t kUriBytesMax = 4096;

std::optional<unsigned> hex_digit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a' + 10);
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A' + 10);
  return std::nullopt;
}

Outcome<std::string> decode(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = static_cast<unsigned char>(text[i]);
    if (text[i] == '%') {
      bool whole = text.size() - i > 2;
      auto high = whole ? hex_digit(text[i + 1]) : std::nullopt;
      auto low = whole ? hex_digit(text[i + 2]) : std::nullopt;
      if (!high || !low)
        return usage_problem(fmt::format("'{}' is not %XX", printable(text.substr(i, 3))),
                             "two hexadecimal digits follow a %");
      byte = *high * 16 + *low;
      i += 2;
    }
    if (byte < 0x20 || byte == 0x7f) return usage_problem("the URI contains a control character");
    plain.push_back(static_cast<char>(byte));
  }
  return plain;
}

struct Authority {
  std::string host;
  std::uint16_t port = kDefaultPort;
  bool brackets = false;
};

Outcome<Authority> parse_authority(std::string_view text) {
  Authority authority;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    std::size_t end = text.find(']');
    if (end == std::string_view::npos)
      return usage_problem("the '[' of the IPv6 address is not closed");
    auto host = decode(text.substr(1, end - 1));
    if (!host) return tl::unexpected(host.error());
    authority.host = std::move(*host);
    authority.brackets = true;
    text.remove_prefix(end + 1);
    if (!text.empty() && text.front() != ':')
      return usage_problem("only a port may follow the ']'");
    has_port = !text.empty();
    if (has_port) port = text.substr(1);
  } else {
    if (text.find('@') != std::string_view::npos)
      return usage_problem("a URI of ours has no user name", "leave out the part up to '@'");
    std::size_t colon = text.find(':');
    if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos)
      return usage_problem("an IPv6 address needs brackets",
                           fmt::format("write [{}]", printable(text)));
    has_port = colon != std::string_view::npos;
    if (has_port) port = text.substr(colon + 1);
    auto host = decode(text.substr(0, colon));
    if (!host) return tl::unexpected(host.error());
    authority.host = std::move(*host);
  }
  if (has_port) {
    auto number = port.starts_with('+') || port.starts_with('-') || port.starts_with("0x")
                      ? std::nullopt
                      : parse_kernel_number(port);
    if (!number || *number < 1 || *number > 65535)
      return usage_problem(fmt::format("'{}' is not a port", printable(port)), "1 to 65535");
    authority.port = static_cast<std::uint16_t>(*number);
  }
  return authority;
}

struct Query {
  std::string session, mode = "rw", source, socket;
  std::vector<std::string> paths;
};

Outcome<Query> parse_query(std::string_view text) {
  Query query;
  while (!text.empty()) {
    std::size_t end = text.find_first_of("&;");
    std::string_view item = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (item.empty()) continue;
    std::size_t equals = item.find('=');
    std::string_view key = item.substr(0, equals);
    auto value =
        decode(equals == std::string_view::npos ? std::string_view() : item.substr(equals + 1));
    if (!value) return tl::unexpected(value.error());
    if (value->empty())
      return usage_problem(fmt::format("'{}' in the URI has no value", printable(item)));
    if (key == "sess")
      query.session = *value;
    else if (key == "mode")
      query.mode = *value;
    else if (key == "src")
      query.source = *value;
    else if (key == "socket")
      query.socket = *value;
    else if (key == "path")
      query.paths.push_back(*value);
    else
      return usage_problem(fmt::format("unknown key '{}' in the URI", printable(key)),
                           suggestion(key, kQueryKeys));
  }
  return query;
}

Outcome<void> check_scheme(std::string_view scheme) {
  for (std::string_view known : kSchemes)
    if (scheme == known) return {};
  if (scheme == "rnbds")
    return usage_problem("rnbds:// is not supported by this version", "use rnbd://");
  return usage_problem(fmt::format("unknown scheme '{}'", printable(scheme)),
                       suggestion(scheme, kSchemes));
}

Outcome<void> add_first_path(std::string_view scheme, std::string_view authority,
                             const Query& query, MapRequest& request) {
  std::string text;
  std::uint16_t port = kDefaultPort;
  if (scheme == "rnbd+unix") {
    if (!authority.empty())
      return usage_problem("rnbd+unix:// takes no host",
                           "rnbd+unix:///volume?socket=/run/rnbd.sock");
    if (query.socket.empty())
      return usage_problem("rnbd+unix:// needs the socket",
                           "rnbd+unix:///volume?socket=/run/rnbd.sock");
    text = "unix:" + query.socket;
  } else {
    if (!query.socket.empty()) return usage_problem("socket= belongs to rnbd+unix://");
    auto parsed = parse_authority(authority);
    if (!parsed) return tl::unexpected(parsed.error());
    if (parsed->host.empty()) return usage_problem("the URI names no host", "rnbd://host/volume");
    port = parsed->port;
    const bool any = scheme == "rnbd";
    const std::string only = any ? "" : std::string(scheme.substr(scheme.find('+') + 1)) + ":";
    text = (any ? "ip:" : only) + parsed->host;
    if (!parse_path_spec(text, port)) {
      if (parsed->brackets)
        return usage_problem(fmt::format("'{}' is not an IPv6 address", printable(parsed->host)));
      text = (any ? "host:" : only) + parsed->host;
    }
    if (!query.source.empty())
      text = (query.source.starts_with("ip:") ? "" : "ip:") + query.source + "," + text;
  }
  auto path = parse_path_spec(text, port);
  if (!path) return tl::unexpected(path.error());
  request.paths.push_back(std::move(*path));
  for (const std::string& extra : query.paths) {
    auto further = parse_path_spec(extra, port);
    if (!further) return tl::unexpected(further.error());
    if (request.paths.size() == kPathsMax)
      return usage_problem(fmt::format("more than {} paths given", kPathsMax));
    request.paths.push_back(std::move(*further));
  }
  return {};
}

}  // namespace

bool looks_like_uri(std::string_view text) { return text.find("://") != std::string_view::npos; }

Outcome<MapRequest> parse_uri(std::string_view uri) {
  if (uri.size() > kUriBytesMax) return usage_problem("the URI is too long");
  std::size_t mark = uri.find("://");
  if (mark == std::string_view::npos)
    return usage_problem(fmt::format("'{}' is not a URI", printable(uri)), "rnbd://host/volume");
  std::string_view scheme = uri.substr(0, mark);
  if (auto known = check_scheme(scheme); !known) return tl::unexpected(known.error());
  std::string_view rest = uri.substr(mark + 3);
  if (rest.find('#') != std::string_view::npos)
    return usage_problem("a URI of ours has no '#' part", "write %23 for a '#' in a name");
  std::size_t question = rest.find('?');
  auto query = parse_query(question == std::string_view::npos ? std::string_view()
                                                              : rest.substr(question + 1));
  if (!query) return tl::unexpected(query.error());
  rest = rest.substr(0, question);
  std::size_t slash = rest.find('/');
  auto volume =
      decode(slash == std::string_view::npos ? std::string_view() : rest.substr(slash + 1));
  if (!volume) return tl::unexpected(volume.error());
  if (volume->empty()) return usage_problem("the URI names no volume", "rnbd://host/volume");
  if (volume->size() > kNameBytesMax)
    return usage_problem("the volume's name is too long",
                         fmt::format("at most {} bytes", kNameBytesMax));
  MapRequest request;
  request.device_path = std::move(*volume);
  if (query->session.find_first_of("/.") != std::string::npos ||
      query->session.size() > kNameBytesMax)
    return usage_problem(
        fmt::format("sess '{}' contains '/' or '.', or is too long", printable(query->session)));
  request.session = query->session;
  auto mode = parse_access_mode("mode", query->mode);
  if (!mode) return tl::unexpected(mode.error());
  request.access_mode = std::move(*mode);
  if (auto added = add_first_path(scheme, rest.substr(0, slash), *query, request); !added)
    return tl::unexpected(added.error());
  return request;
}

}  // namespace rnbd::daemon
