#include "daemon/config/rnbdtab.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <set>

#include "base/log.h"
#include "daemon/admin/runtime.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

constexpr std::string_view kBlanks = " \t\r";
constexpr std::array<std::string_view, 6> kMapWords{"sessname",  "path",        "device_path",
                                                    "dest_port", "access_mode", "nr_poll_queues"};
constexpr std::array<std::string_view, 13> kOptions{"ro",
                                                    "rw",
                                                    "migration",
                                                    "once",
                                                    "noauto",
                                                    "auto",
                                                    "nofail",
                                                    "frontend",
                                                    "hold",
                                                    "policy",
                                                    "max_reconnect_attempts",
                                                    "defaults",
                                                    "_netdev"};
constexpr std::array<std::string_view, 6> kPolicies{"round-robin", "min-inflight", "min-latency",
                                                    "RR",          "MI",           "ML"};
constexpr auto kHoldMax = std::chrono::hours(24);
constexpr std::int64_t kAttemptsMax = 9999;

// The words of a line, up to one that begins with '#'.
std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  for (;;) {
    const std::size_t first = line.find_first_not_of(kBlanks);
    if (first == std::string_view::npos || line[first] == '#') return words;
    line.remove_prefix(first);
    const std::size_t end = std::min(line.find_first_of(kBlanks), line.size());
    words.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

bool is_map_word(std::string_view word) {
  const std::size_t equals = word.find('=');
  return equals != std::string_view::npos &&
         std::find(kMapWords.begin(), kMapWords.end(), word.substr(0, equals)) != kMapWords.end();
}

bool is_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == ':' || c == '-';
  };
  return !name.empty() && name.size() <= kRnbdtabNameMax && name[0] != '-' && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

Outcome<void> take_hold(std::string_view value, RnbdtabEntry& entry) {
  const auto time = parse_duration(value);
  if (value != "forever" && (!time || *time <= Duration{} || *time > kHoldMax))
    return usage_problem(fmt::format("hold cannot be '{}'", printable(value)),
                         "forever, or a time up to 24h such as 30s");
  entry.hold = value;
  return {};
}

Outcome<void> take_policy(std::string_view value, RnbdtabEntry& entry) {
  if (std::find(kPolicies.begin(), kPolicies.end(), value) == kPolicies.end())
    return usage_problem(fmt::format("unknown policy '{}'", printable(value)),
                         suggestion(value, std::span(kPolicies).first(3)));
  entry.session_settings.push_back({"policy", std::string(value)});
  return {};
}

Outcome<void> take_attempts(std::string_view value, RnbdtabEntry& entry) {
  const auto number = parse_kernel_number(value);
  if (!number || *number < -1 || *number > kAttemptsMax)
    return usage_problem(fmt::format("max_reconnect_attempts cannot be '{}'", printable(value)),
                         fmt::format("0 to {}, or -1: for ever", kAttemptsMax));
  entry.session_settings.push_back({"max_reconnect_attempts", std::string(value)});
  return {};
}

Outcome<void> take_frontend(std::string_view value, RnbdtabEntry& entry) {
  if (!is_frontend_name(value))
    return usage_problem(fmt::format("unknown frontend '{}'", printable(value)),
                         "ublk, loop, fuse, nbd or auto");
  entry.map.frontend = value;
  return {};
}

Outcome<void> take_flag(std::string_view flag, RnbdtabEntry& entry) {
  if (is_access_mode(flag))
    entry.map.access_mode = flag;
  else if (flag == "once")
    entry.once = true;
  else if (flag == "noauto" || flag == "auto")
    entry.noauto = flag == "noauto";
  else if (flag == "nofail")
    entry.nofail = true;
  else if (flag != "defaults" && flag != "_netdev")
    return usage_problem(fmt::format("unknown option '{}'", printable(flag)),
                         suggestion(flag, kOptions));
  return {};
}

Outcome<void> take_option(std::string_view option, RnbdtabEntry& entry) {
  const std::size_t equals = option.find('=');
  if (equals == std::string_view::npos) return take_flag(option, entry);
  const std::string_view key = option.substr(0, equals);
  const std::string_view value = option.substr(equals + 1);
  if (key == "frontend") return take_frontend(value, entry);
  if (key == "hold") return take_hold(value, entry);
  const auto again = [&](const Setting& setting) { return setting.name == key; };
  std::erase_if(entry.session_settings, again);  // what is said twice counts last
  if (key == "policy") return take_policy(value, entry);
  if (key == "max_reconnect_attempts") return take_attempts(value, entry);
  return usage_problem(fmt::format("unknown option '{}'", printable(option)),
                       suggestion(key, kOptions));
}

Outcome<void> take_options(std::string_view options, RnbdtabEntry& entry) {
  while (!options.empty()) {
    const std::size_t comma = options.find(',');
    const std::string_view option = options.substr(0, comma);
    options = comma == std::string_view::npos ? std::string_view() : options.substr(comma + 1);
    if (option.empty()) continue;
    if (auto taken = take_option(option, entry); !taken) return taken;
  }
  return {};
}

Outcome<RnbdtabEntry> entry_of(std::span<const std::string_view> words, int cpus) {
  RnbdtabEntry entry;
  entry.name = words[0];
  if (!is_name(entry.name))
    return usage_problem(
        fmt::format("'{}' is no name", printable(entry.name)),
        fmt::format("letters, digits and _.:-, not - or . first, at most {}", kRnbdtabNameMax));
  words = words.subspan(1);
  if (words.empty())
    return usage_problem(fmt::format("'{}' names no volume", entry.name),
                         "name rnbd://host/volume options");
  Outcome<MapRequest> map;
  if (looks_like_uri(words[0])) {
    map = parse_uri(words[0]);
    words = words.subspan(1);
  } else {
    std::string line;
    while (!words.empty() && is_map_word(words[0])) {
      line += (line.empty() ? "" : " ") + std::string(words[0]);
      words = words.subspan(1);
    }
    if (line.empty())
      return usage_problem(
          fmt::format("'{}' is neither a URI nor a word of the map line", printable(words[0])),
          "rnbd://host/volume, or sessname= path= device_path=");
    map = parse_map_line(line, cpus);
  }
  if (!map) return tl::unexpected(map.error());
  entry.map = std::move(*map);
  if (words.empty()) return entry;
  if (auto taken = take_options(words[0], entry); !taken) return tl::unexpected(taken.error());
  if (words.size() > 1)
    return usage_problem(fmt::format("'{}' is one word too many", printable(words[1])),
                         "options are one word, separated by commas");
  return entry;
}

// Volumes are told apart by session and name; without a session by the first path.
std::string identity_of(const MapRequest& map) {
  const std::string where = map.session.empty()
                                ? fmt::format("{} {}", to_text(map.paths[0]), map.paths[0].port)
                                : map.session;
  return where + "\n" + map.device_path;
}

}  // namespace

const RnbdtabEntry* Rnbdtab::find(std::string_view name) const {
  const auto at = std::find_if(entries.begin(), entries.end(),
                               [&](const RnbdtabEntry& entry) { return entry.name == name; });
  return at == entries.end() ? nullptr : &*at;
}

Outcome<Rnbdtab> parse_rnbdtab(std::string_view text, const std::string& file_name, int cpus) {
  Rnbdtab table;
  std::set<std::string> names, volumes;
  unsigned line_number = 0;
  const auto wrong = [&](const std::string& what, std::string hint) {
    return problem({ProblemCode::config, fmt::format("{}:{}: {}", file_name, line_number, what),
                    std::move(hint), EINVAL});
  };
  if (text.size() > kRnbdtabBytesMax)
    return wrong("the file is too long", fmt::format("at most {}", format_size(kRnbdtabBytesMax)));
  while (!text.empty()) {
    ++line_number;
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (line.size() > kRnbdtabLineMax)
      return wrong("the line is too long", fmt::format("at most {} bytes", kRnbdtabLineMax));
    const auto words = words_of(line);
    if (words.empty()) continue;
    auto entry = entry_of(words, cpus);
    if (!entry) return wrong(entry.error().what, entry.error().hint);
    if (!names.insert(entry->name).second)
      return wrong(fmt::format("the name '{}' is there already", entry->name),
                   fmt::format("see line {}", table.find(entry->name)->line));
    if (!volumes.insert(identity_of(entry->map)).second)
      return wrong(fmt::format("'{}' is the same volume as one above", entry->name), "");
    if (table.entries.size() == kRnbdtabEntriesMax)
      return wrong("too many entries", fmt::format("at most {}", kRnbdtabEntriesMax));
    entry->line = line_number;
    table.entries.push_back(std::move(*entry));
  }
  return table;
}

Outcome<Rnbdtab> load_rnbdtab(const std::string& file, bool must_exist, int cpus) {
  std::ifstream stream(file, std::ios::binary);
  const int error = errno;
  if (!stream && error == ENOENT && !must_exist) return Rnbdtab{};
  std::string text(kRnbdtabBytesMax + 1, '\0');
  if (stream) {
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(stream.gcount()));
    if (!stream.bad()) return parse_rnbdtab(text, file, cpus);
  }
  return problem({ProblemCode::config,
                  fmt::format("cannot read {}: {}", file, from_errno(error).message()), "", error});
}

std::string default_rnbdtab_file() {
  const std::string named = environment("RNBD_TAB");
  return named.empty() ? "/etc/rnbd/rnbdtab" : named;
}

}  // namespace rnbd::daemon
