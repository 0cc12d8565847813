#include "app/cli/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/log.h"

namespace rnbd::cli {
namespace {

using daemon::MapRequest;
using daemon::Outcome;
using daemon::usage_problem;

constexpr std::array<std::string_view, 3> kModes{"ro", "rw", "migration"};

std::string join_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

// "<volume> from <address>[, <address>…] [mode]"
Outcome<MapRequest> parse_from(const std::vector<std::string>& words, const std::string& host) {
  MapRequest request;
  request.device_path = words[0];
  if (words.size() < 3)
    return usage_problem("'from' needs a server", "rnbd map vol0 from 10.0.0.1");
  for (std::size_t i = 2; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (std::find(kModes.begin(), kModes.end(), word) != kModes.end()) {
      request.access_mode = word;
      continue;
    }
    auto path = daemon::parse_path_spec(word, daemon::kDefaultPort);
    for (std::string_view prefix : {"ip:", "host:"})
      if (!path) path = daemon::parse_path_spec(std::string(prefix) + word, daemon::kDefaultPort);
    if (!path)
      return usage_problem(fmt::format("'{}' is no address and no host name", printable(word)),
                           "rnbd map vol0 from 10.0.0.1");
    request.paths.push_back(*path);
  }
  if (request.paths.empty())
    return usage_problem("'from' needs a server", "rnbd map vol0 from 10.0.0.1");
  request.session = daemon::default_session_name(host, request.paths[0]);
  return request;
}

bool says_key(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& w) { return w.find('=') != std::string::npos; });
}

}  // namespace

Outcome<MapRequest> parse_map_words(const std::vector<std::string>& words, const std::string& host,
                                    int cpus) {
  if (words.empty())
    return usage_problem("map what?",
                         "rnbd map rnbd://host/volume, or sessname=… path=ip:… device_path=…");
  if (daemon::looks_like_uri(words[0])) {
    if (words.size() > 1)
      return usage_problem(fmt::format("'{}' after the URI is not understood", printable(words[1])),
                           "options of a URI go behind '?': ?mode=ro");
    auto request = daemon::parse_uri(words[0]);
    if (request && request->session.empty())
      request->session = daemon::default_session_name(host, request->paths[0]);
    return request;
  }
  if (words.size() > 1 && words[1] == "from") return parse_from(words, host);
  if (!says_key(words))
    return usage_problem(fmt::format("where is '{}'?", printable(words[0])),
                         fmt::format("rnbd map {} from 10.0.0.1, or rnbd://10.0.0.1/{}",
                                     printable(words[0]), printable(words[0])));
  return daemon::parse_map_line(join_words(words), cpus);
}

Outcome<TargetWords> parse_target_words(const std::vector<std::string>& words,
                                        const std::string& host, int cpus) {
  TargetWords result;
  std::vector<std::string> rest = words;
  if (rest.size() > 1 && (rest.back() == "force" || rest.back() == "normal")) {
    result.force = rest.back() == "force";
    rest.pop_back();
  }
  if (rest.empty())
    return usage_problem(
        "which one?",
        "name the device: rnbd0, its volume, or the words that mapped it; see 'rnbd list'");
  bool mapping_words = (daemon::looks_like_uri(rest[0]) && rest[0].starts_with("rnbd")) ||
                       says_key(rest) || (rest.size() > 1 && rest[1] == "from");
  bool nbd = rest[0].starts_with("nbd");
  if (mapping_words && !nbd) {
    auto request = parse_map_words(rest, host, cpus);
    if (!request) return tl::unexpected(request.error());
    result.target = request->device_path;
    result.session = request->session;
    return result;
  }
  if (rest.size() > 1)
    return usage_problem(
        fmt::format("'{}' after '{}' is not understood", printable(rest[1]), printable(rest[0])),
        "one device at a time");
  result.target = rest[0];
  return result;
}

}  // namespace rnbd::cli
