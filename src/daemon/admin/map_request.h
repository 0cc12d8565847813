#pragma once
// What to map, however it was said: as the line one writes to the kernel's map_device, as a URI, or
// in the words of the command line. Text only; names are resolved and addresses parsed by the
// daemon.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/admin/problem.h"

namespace rnbd::daemon {

inline constexpr std::uint16_t kDefaultPort = 1234;
inline constexpr std::size_t kPathsMax = 6;        // of one map line, as the kernel
inline constexpr std::size_t kNameBytesMax = 254;  // of a session name and of a device path

struct PathSpec {
  std::string source{};       // "ip:…" or empty: chosen by routing
  std::string destination{};  // "ip:…", "unix:/…", "gid:…", or "host:name" to be resolved
  std::uint16_t port = kDefaultPort;
  bool operator==(const PathSpec&) const = default;
};

struct MapRequest {
  std::string session{};  // sessname; empty in a URI without sess=: see default_session_name
  std::vector<PathSpec> paths{};
  std::string device_path{};
  std::string access_mode = "rw";
  int nr_poll_queues = 0;
  // How it appears: "auto", "ublk", "loop", "fuse", "nbd"; empty: as the daemon is set. Not a word
  // of the kernel's line.
  std::string frontend{};
  bool operator==(const MapRequest&) const = default;
};

bool is_frontend_name(std::string_view text);

inline constexpr std::array<std::string_view, 3> kAccessModes{"ro", "rw", "migration"};
bool is_access_mode(std::string_view text);
// One of those, told under the word `key` when it is not.
Outcome<std::string> parse_access_mode(std::string_view key, std::string_view value);
// The value of dest_port=, in the kernel's notation of numbers; 0 is the kernel's "any".
Outcome<std::uint16_t> parse_dest_port(std::string_view value, std::uint16_t least = 0);

// The kernel's line: "sessname=blya path=ip:10.50.100.66 device_path=/dev/ram0". White space at
// both ends is stripped, single blanks separate; dest_port= counts for the paths after it; what is
// given twice counts last. `cpus` bounds nr_poll_queues.
Outcome<MapRequest> parse_map_line(std::string_view line, int cpus);

// rnbd://host[:port]/volume[?sess=&mode=&path=&src=], rnbd+tcp://,
// rnbd+unix:///volume?socket=/path.
Outcome<MapRequest> parse_uri(std::string_view uri);
bool looks_like_uri(std::string_view text);

// "[src@]dst" or "src,dst"; each with its prefix. EPROTONOSUPPORT in Problem::error for an unknown
// one.
Outcome<PathSpec> parse_path_spec(std::string_view text, std::uint16_t port);
// The same back, without the port.
std::string to_text(const PathSpec& path);

// client@server, as administrators of RNBD name sessions, in the characters a session name may
// have.
std::string default_session_name(std::string_view client_host, const PathSpec& path);
// The hosts of a name of that form; both empty for any other.
struct SessionHosts {
  std::string client{}, server{};
};
SessionHosts hosts_of_session_name(std::string_view name);
// The words that would map the same again, for lists and logs.
std::string to_line(const MapRequest& request);

}  // namespace rnbd::daemon
