#include "daemon/client/path_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <vector>

#include "base/log.h"

namespace rnbd::daemon {
namespace {

// "a,b" and "a@b" are the same path.
std::string with_at(std::string_view text) {
  std::string same(text);
  std::replace(same.begin(), same.end(), ',', '@');
  return same;
}

std::string with_port(const rtrs::client::PathInfo& path) {
  const fabric::Address& peer = path.address.destination;
  return peer.is_unix() ? path.name : fmt::format("{} port {}", path.name, peer.port());
}

}  // namespace

bool is_path_number(std::string_view word) {
  return !word.empty() && word.size() <= 3 &&
         std::all_of(word.begin(), word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool names_path(const rtrs::client::PathInfo& path, std::string_view word) {
  const fabric::Address& peer = path.address.destination;
  const std::array<std::string, 7> names{
      path.name,        with_port(path), path.address.to_string(),  path.address.to_spec(),
      peer.to_string(), peer.to_spec(),  peer.to_string_with_port()};
  const std::string plain = with_at(word);
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    const std::string known = with_at(name);
    return known == plain || known == "ip:" + plain;
  });
}

std::string candidates(Paths paths) {
  std::string text;
  for (std::size_t i = 0; i < paths.size(); ++i)
    text += fmt::format("{}{}: {}", i == 0 ? "" : ", ", i + 1, printable(with_port(paths[i])));
  return text;
}

Outcome<std::size_t> find_path(Paths paths, std::string_view word, std::string_view session) {
  if (is_path_number(word)) {
    std::size_t number = 0;
    std::from_chars(word.data(), word.data() + word.size(), number);
    if (number >= 1 && number <= paths.size()) return number - 1;
  }
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < paths.size(); ++i)
    if (names_path(paths[i], word)) found.push_back(i);
  if (found.size() == 1) return found.front();
  const std::string those = paths.empty() ? "it has none" : "its paths are " + candidates(paths);
  if (found.empty())
    return problem(
        {ProblemCode::not_found,
         fmt::format("session '{}' has no path '{}'", printable(session), printable(word)), those,
         ENOENT});
  return problem({ProblemCode::usage,
                  fmt::format("'{}' names {} paths of session '{}'", printable(word), found.size(),
                              printable(session)),
                  those + "; name one by its number", EINVAL});
}

}  // namespace rnbd::daemon
