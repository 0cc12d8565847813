#include "app/cli/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/log.h"
#include "daemon/admin/suggest.h"

namespace rnbd::cli {
namespace {

using daemon::MapRequest;
using daemon::Outcome;
using daemon::usage_problem;

std::string join_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

constexpr std::array<std::string_view, 4> kFromKeys{"sessname", "path", "dest_port", "access_mode"};

// The words behind "<volume> from": addresses with or without prefix and port, host names, the name
// of a session, an access mode, and words of the kernel's line. dest_port counts for every address
// without a port of its own, wherever it stands.
class FromWords {
 public:
  FromWords(const std::string& host, const IsSession& is_session)
      : host_(host), is_session_(is_session) {}

  Outcome<void> take(const std::string& word) {
    if (daemon::is_access_mode(word)) {
      request_.access_mode = word;
      return {};
    }
    const std::size_t equals = word.find('=');
    if (equals != std::string::npos)
      return take_key(word.substr(0, equals), word.substr(equals + 1));
    auto path = daemon::parse_path_spec(word, daemon::kDefaultPort);
    if (path) {
      add(std::move(*path), false);
      return {};
    }
    for (std::string_view prefix : {"ip:", "rdma:", "tcp:", "gid:", "host:", "unix:"})
      if (word.starts_with(prefix)) return tl::unexpected(path.error());
    if (word.find('@') != std::string::npos || (is_session_ && is_session_(word)))
      return take_session(word);
    return take_host(word);
  }

  Outcome<MapRequest> finish(const std::string& volume) {
    if (request_.paths.empty() && request_.session.empty())
      return usage_problem("'from' needs a server", "rnbd map vol0 from 10.0.0.1");
    if (request_.paths.size() > daemon::kPathsMax)
      return usage_problem(fmt::format("more than {} paths given", daemon::kPathsMax));
    request_.device_path = volume;
    for (std::size_t i = 0; port_ && i < request_.paths.size(); ++i)
      if (!has_port_[i]) request_.paths[i].port = *port_;
    if (request_.session.empty())
      request_.session = daemon::default_session_name(host_, request_.paths[0]);
    return std::move(request_);
  }

 private:
  void add(daemon::PathSpec path, bool has_port) {
    request_.paths.push_back(std::move(path));
    has_port_.push_back(has_port);
  }

  Outcome<void> take_session(const std::string& name) {
    if (name.empty() || name.size() > daemon::kNameBytesMax ||
        name.find_first_of("/.") != std::string::npos)
      return usage_problem(
          fmt::format("'{}' is no address and no name of a session", printable(name)),
          "ip:10.0.0.2@ip:10.0.0.1 is a path with its source");
    if (!request_.session.empty() && request_.session != name)
      return usage_problem(
          fmt::format("two sessions, '{}' and '{}'", printable(request_.session), printable(name)));
    request_.session = name;
    return {};
  }

  // As in a URI: with a port, in brackets; but IPv6 needs none.
  Outcome<void> take_host(const std::string& word) {
    if (auto path = daemon::parse_path_spec("ip:" + word, daemon::kDefaultPort)) {
      add(std::move(*path), false);
      return {};
    }
    const bool host = word.find_first_of("/?#%") == std::string::npos;
    auto parsed = daemon::parse_uri("rnbd://" + (host ? word : "") + "/volume");
    if (!parsed)
      return usage_problem(fmt::format("'{}' is no address and no host name", printable(word)),
                           "10.0.0.1, 10.0.0.1:1234, [fd00::1]:1234, store1, or a session's name");
    add(std::move(parsed->paths[0]), word.find(':', word.find(']') + 1) != std::string::npos);
    return {};
  }

  Outcome<void> take_key(const std::string& key, const std::string& value) {
    if (key == "sessname") return take_session(value);
    if (key == "dest_port") {
      auto port = daemon::parse_dest_port(value);
      if (!port) return tl::unexpected(port.error());
      port_ = *port;
      return {};
    }
    if (key == "access_mode") {
      auto mode = daemon::parse_access_mode(key, value);
      if (!mode) return tl::unexpected(mode.error());
      request_.access_mode = std::move(*mode);
      return {};
    }
    if (key != "path")
      return usage_problem(fmt::format("unknown word '{}=' after 'from'", printable(key)),
                           daemon::suggestion(key, kFromKeys));
    auto path = daemon::parse_path_spec(value, daemon::kDefaultPort);
    if (!path) return tl::unexpected(path.error());
    add(std::move(*path), false);
    return {};
  }

  const std::string& host_;
  const IsSession& is_session_;
  MapRequest request_;
  std::vector<bool> has_port_;
  std::optional<std::uint16_t> port_;
};

Outcome<MapRequest> parse_from(const std::vector<std::string>& words, const std::string& host,
                               const IsSession& is_session) {
  FromWords from(host, is_session);
  for (std::size_t i = 2; i < words.size(); ++i)
    if (auto taken = from.take(words[i]); !taken) return tl::unexpected(taken.error());
  return from.finish(words[0]);
}

bool says_key(const std::vector<std::string>& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& w) { return w.find('=') != std::string::npos; });
}

}  // namespace

Outcome<MapRequest> parse_map_words(const std::vector<std::string>& words, const std::string& host,
                                    int cpus, const IsSession& is_session) {
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
  if (words.size() > 1 && words[1] == "from") return parse_from(words, host, is_session);
  static constexpr std::array<std::string_view, 1> kFrom{"from"};
  if (words.size() > 2 && !says_key({words[0]}) && !daemon::nearest(words[1], kFrom).empty())
    return usage_problem(fmt::format("unknown word '{}'", printable(words[1])),
                         "did you mean 'from'?");
  if (!says_key(words))
    return usage_problem(fmt::format("where is '{}'?", printable(words[0])),
                         fmt::format("rnbd map {} from 10.0.0.1, or rnbd://10.0.0.1/{}",
                                     printable(words[0]), printable(words[0])));
  return daemon::parse_map_line(join_words(words), cpus);
}

Outcome<TargetWords> parse_target_words(const std::vector<std::string>& words,
                                        const std::string& host, int cpus,
                                        const IsSession& is_session) {
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
    auto request = parse_map_words(rest, host, cpus, is_session);
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
