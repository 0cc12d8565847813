#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "daemon/admin/map_request.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

constexpr std::array<std::string_view, 6> kKeys{"sessname",  "path",        "device_path",
                                                "dest_port", "access_mode", "nr_poll_queues"};
constexpr std::string_view kSpace = " \t\n\v\f\r";

std::string_view strip(std::string_view text) {
  std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// A name of at most 255 bytes, of which the kernel keeps 254.
Outcome<std::string> parse_name(std::string_view key, std::string_view value) {
  if (value.size() > kNameBytesMax + 1)
    return usage_problem(fmt::format("{} has {} bytes", key, value.size()),
                         fmt::format("at most {}", kNameBytesMax));
  return std::string(value.substr(0, kNameBytesMax));
}

bool has_control_bytes(std::string_view text) {
  for (char c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return true;
  return false;
}

// Names go through JSON to other processes and to disk, which is UTF-8 (RFC 3629).
bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i++]);
    if (first < 0x80) continue;
    const int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4) return false;
    unsigned code = first & (0x3fU >> more);
    for (int k = 0; k < more; ++k, ++i) {
      if (i == text.size() || (static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80) return false;
      code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3fU);
    }
    const bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
    if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
  }
  return true;
}

// One key=value of the line being read.
class LineParser {
 public:
  explicit LineParser(int cpus) : cpus_(cpus) {}

  Outcome<void> take(std::string_view item) {
    std::size_t equals = item.find('=');
    std::string_view key = item.substr(0, equals);
    if (equals == std::string_view::npos || equals + 1 == item.size())
      return unknown_or_empty(item, key);
    std::string_view value = item.substr(equals + 1);
    if (has_control_bytes(value))
      return usage_problem(
          fmt::format("{} contains a control character: '{}'", printable(key), printable(value)),
          "only single blanks separate words");
    if (!is_utf8(value))
      return usage_problem(fmt::format("{} is not UTF-8: '{}'", printable(key), printable(value)),
                           "names go through files and messages that are");
    if (key == "sessname") return take_name(key, value, request_.session);
    if (key == "device_path") return take_name(key, value, request_.device_path);
    if (key == "path") return take_path(value);
    if (key == "dest_port") return take_port(value);
    if (key == "access_mode") return take_access_mode(value);
    if (key == "nr_poll_queues") return take_poll_queues(value);
    return unknown_or_empty(item, key);
  }

  Outcome<MapRequest> finish() {
    if (request_.session.empty())
      return usage_problem("sessname= is missing",
                           "name the session to the server, e.g. sessname=client@server");
    if (request_.device_path.empty())
      return usage_problem("device_path= is missing",
                           "name the volume on the server, e.g. device_path=/dev/ram0");
    if (request_.session.find_first_of("/.") != std::string::npos)
      return usage_problem(
          fmt::format("sessname '{}' contains '/' or '.'", printable(request_.session)),
          "a session name may have neither");
    return std::move(request_);
  }

 private:
  static tl::unexpected<Problem> unknown_or_empty(std::string_view item, std::string_view key) {
    for (std::string_view known : kKeys)
      if (key == known)
        return usage_problem(fmt::format("'{}' has no value", printable(item)),
                             fmt::format("write {}=…", known));
    return usage_problem(fmt::format("unknown word '{}'", printable(item)), suggestion(key, kKeys));
  }

  Outcome<void> take_name(std::string_view key, std::string_view value, std::string& name) {
    auto parsed = parse_name(key, value);
    if (!parsed) return tl::unexpected(parsed.error());
    name = std::move(*parsed);
    return {};
  }

  Outcome<void> take_path(std::string_view value) {
    if (request_.paths.size() == kPathsMax)
      return usage_problem(fmt::format("more than {} path= given", kPathsMax),
                           "add further paths later", ENOMEM);
    auto path = parse_path_spec(value, port_);
    if (!path) return tl::unexpected(path.error());
    request_.paths.push_back(std::move(*path));
    return {};
  }

  Outcome<void> take_port(std::string_view value) {
    auto port = parse_dest_port(value);
    if (!port) return tl::unexpected(port.error());
    port_ = *port;
    return {};
  }

  Outcome<void> take_access_mode(std::string_view value) {
    auto mode = parse_access_mode("access_mode", value);
    if (!mode) return tl::unexpected(mode.error());
    request_.access_mode = std::move(*mode);
    return {};
  }

  Outcome<void> take_poll_queues(std::string_view value) {
    auto number = parse_kernel_number(value);
    if (!number || *number < -1 || *number > cpus_)
      return usage_problem(
          fmt::format("nr_poll_queues '{}' is out of range", printable(value)),
          fmt::format("-1 to {}, the number of CPUs; -1 means that number", cpus_));
    request_.nr_poll_queues = *number == -1 ? cpus_ : static_cast<int>(*number);
    return {};
  }

  int cpus_;
  std::uint16_t port_ = kDefaultPort;
  MapRequest request_;
};

}  // namespace

Outcome<MapRequest> parse_map_line(std::string_view line, int cpus) {
  LineParser parser(cpus);
  std::string_view rest = strip(line);
  while (!rest.empty()) {
    std::size_t blank = rest.find(' ');
    std::string_view item = rest.substr(0, blank);
    rest = blank == std::string_view::npos ? std::string_view() : rest.substr(blank + 1);
    if (item.empty()) continue;
    if (auto taken = parser.take(item); !taken) return tl::unexpected(taken.error());
  }
  return parser.finish();
}

bool is_frontend_name(std::string_view text) {
  return text == "auto" || text == "ublk" || text == "loop" || text == "fuse" || text == "nbd";
}

bool is_access_mode(std::string_view text) {
  return std::find(kAccessModes.begin(), kAccessModes.end(), text) != kAccessModes.end();
}

Outcome<std::string> parse_access_mode(std::string_view key, std::string_view value) {
  if (is_access_mode(value)) return std::string(value);
  return usage_problem(fmt::format("unknown {} '{}'", key, printable(value)),
                       suggestion(value, kAccessModes));
}

Outcome<std::uint16_t> parse_dest_port(std::string_view value, std::uint16_t least) {
  const auto number = parse_kernel_number(value);
  if (!number || *number < least || *number > 65535)
    return usage_problem(fmt::format("dest_port '{}' is not a port", printable(value)),
                         fmt::format("{} to 65535", least));
  return static_cast<std::uint16_t>(*number);
}

std::string to_line(const MapRequest& request) {
  std::string line = "sessname=" + request.session;
  std::uint16_t port = kDefaultPort;
  for (const PathSpec& path : request.paths) {
    if (path.port != port && !path.destination.starts_with("unix:")) {
      port = path.port;
      line += fmt::format(" dest_port={}", port);
    }
    line += " path=" + to_text(path);
  }
  line += " device_path=" + request.device_path;
  if (request.access_mode != "rw") line += " access_mode=" + request.access_mode;
  if (request.nr_poll_queues != 0)
    line += fmt::format(" nr_poll_queues={}", request.nr_poll_queues);
  return line;
}

}  // namespace rnbd::daemon
