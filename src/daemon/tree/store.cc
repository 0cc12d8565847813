#include "daemon/tree/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <limits>
#include <string>

#include "base/log.h"
#include "daemon/admin/units.h"

namespace rnbd::daemon {
namespace {

using Request = Outcome<std::optional<AdminRequest>>;

constexpr std::string_view kSpace = " \t\n\v\f\r";
constexpr std::uint64_t kSector = 512;
constexpr int kAttemptsMax = 9999;

std::string_view strip(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// As the kernel compares words: one newline at the end does not count.
std::string_view without_newline(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

std::string_view file_of(const Node& node) {
  return std::string_view(node.path).substr(node.path.rfind('/') + 1);
}

tl::unexpected<Problem> refuse(const Node& node, std::string_view text, std::string hint) {
  return usage_problem(fmt::format("{} does not take '{}'", file_of(node), printable(strip(text))),
                       std::move(hint));
}

Request expect_one(const Node& node, std::string_view text, AdminRequest request) {
  if (without_newline(text) != "1") return refuse(node, text, "write 1");
  return request;
}

AdminRequest on_path(AdminCommand command, const Node& node) {
  AdminRequest request;
  request.command = command;
  request.target = node.session;
  request.path = node.path_word;
  return request;
}

AdminRequest on_device(AdminCommand command, const Node& node) {
  AdminRequest request;
  request.command = command;
  request.target = node.device;
  return request;
}

AdminRequest on_volume(AdminCommand command, const Node& node) {
  AdminRequest request;
  request.command = command;
  request.target = node.volume;
  request.session = node.session;
  return request;
}

Request set_of(const std::string& target, std::string name, std::string value) {
  AdminRequest request;
  request.command = AdminCommand::set;
  request.target = target;
  request.settings.push_back({std::move(name), std::move(value)});
  return request;
}

Request map_of(std::string_view text, unsigned cpus) {
  auto map = parse_map_line(text, static_cast<int>(std::min(cpus, 4096U)));
  if (!map) return tl::unexpected(map.error());
  AdminRequest request;
  request.command = AdminCommand::map;
  request.map = std::move(*map);
  request.exclusive = true;  // mapped already is an error here
  return request;
}

Request unmap_of(const Node& node, std::string_view text) {
  const std::string_view word = strip(text);
  if (word != "normal" && word != "force") return refuse(node, text, "normal or force");
  AdminRequest request = on_device(AdminCommand::unmap, node);
  request.force = word == "force";
  return request;
}

Request resize_of(const Node& node, std::string_view text) {
  const auto sectors = parse_kernel_number(without_newline(text));
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max() / std::int64_t{kSector};
  if (!sectors || *sectors <= 0 || *sectors > kMost)
    return refuse(node, text, "the new size in sectors of 512 bytes");
  AdminRequest request = on_device(AdminCommand::resize, node);
  request.size = static_cast<std::uint64_t>(*sectors) * kSector;
  return request;
}

Request add_path_of(const Node& node, std::string_view text) {
  auto path = parse_path_spec(text.substr(0, text.find('\n')), 0);
  if (!path) return usage_problem(path.error().what, path.error().hint);  // always EINVAL
  AdminRequest request;
  request.command = AdminCommand::add_path;
  request.target = node.session;
  request.new_path = std::move(*path);
  return request;
}

// Decimal, with a sign at most.
Request attempts_of(const Node& node, std::string_view text) {
  const std::string_view word = without_newline(text);
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  const bool number = !word.empty() && error == std::errc() && end == word.data() + word.size();
  if (!number || value < -1 || value > kAttemptsMax)
    return refuse(node, text, fmt::format("-1, for ever, or 0 to {}", kAttemptsMax));
  return set_of(node.session, "max_reconnect_attempts", std::to_string(value));
}

struct PolicyName {
  std::string_view name, letters, number;
};
constexpr std::array kPolicies{PolicyName{"round-robin", "rr", "0"},
                               PolicyName{"min-inflight", "mi", "1"},
                               PolicyName{"min-latency", "ml", "2"}};

// A number, two letters in either case, or a word that begins with a name.
Request policy_of(const Node& node, std::string_view text) {
  const std::string_view word = without_newline(text);
  std::string lower(word);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  for (const PolicyName& policy : kPolicies)
    if (word == policy.number || lower == policy.letters || word.starts_with(policy.name))
      return set_of(node.session, "policy", std::string(policy.name));
  return refuse(node, text, "round-robin, min-inflight or min-latency");
}

Request uevent_of(const Node& node, std::string_view text) {
  constexpr std::array<std::string_view, 8> kActions{"add",    "remove",  "change", "move",
                                                     "online", "offline", "bind",   "unbind"};
  const std::string_view word = without_newline(text);
  if (std::find(kActions.begin(), kActions.end(), word) == kActions.end())
    return refuse(node, text, "add, change, ...; it has no effect");
  return std::nullopt;
}

// What the kernel answers when the thing an attribute belongs to is just gone, and where it has one
// errno for what we tell apart.
int kernel_errno(const Node& node, int error) {
  const bool creates = node.action == Action::map_device;
  if (!creates && error == ENOENT && node.action != Action::resize) return ENODEV;
  if (error == ECONNREFUSED) error = ECONNRESET;                    // nobody listens
  if (error == ESHUTDOWN) error = creates ? ECONNABORTED : ENODEV;  // the session closed meanwhile
  if (node.action == Action::reconnect && error != EBUSY && error != ENODEV) return ENOTCONN;
  return error == 0 ? EIO : error;
}

}  // namespace

Request request_of(const Node& node, std::string_view text, unsigned cpus) {
  if (node.kind == NodeKind::directory)
    return problem({ProblemCode::usage, printable(node.path) + " is a directory", "", EISDIR});
  if (node.action == Action::none)
    return problem(
        {ProblemCode::refused, fmt::format("{} cannot be written", file_of(node)), "", EACCES});
  if (text.size() > kWriteMax)
    return usage_problem(fmt::format("{} bytes are too many for {}", text.size(), file_of(node)),
                         fmt::format("at most {}", kWriteMax), E2BIG);
  switch (node.action) {
    case Action::none:
      break;
    case Action::uevent:
      return uevent_of(node, text);
    case Action::map_device:
      return map_of(text, cpus);
    case Action::unmap_device:
      return unmap_of(node, text);
    case Action::resize:
      return resize_of(node, text);
    case Action::remap_device:
      return expect_one(node, text, on_device(AdminCommand::remap, node));
    case Action::hold:
      return set_of(node.device, "hold", std::string(strip(text)));
    case Action::recover_device:
      return expect_one(node, text, on_device(AdminCommand::recover, node));
    case Action::add_path:
      return add_path_of(node, text);
    case Action::max_reconnect_attempts:
      return attempts_of(node, text);
    case Action::mpath_policy:
      return policy_of(node, text);
    case Action::reconnect:
      return expect_one(node, text, on_path(AdminCommand::reconnect, node));
    case Action::disconnect:
      return expect_one(node, text, on_path(AdminCommand::disconnect, node));
    case Action::remove_path:
      return expect_one(node, text, on_path(AdminCommand::remove_path, node));
    case Action::reset: {
      AdminRequest request = on_path(AdminCommand::reset, node);
      request.counters = node.counters;
      return expect_one(node, text, std::move(request));
    }
    case Action::force_close:
      return expect_one(node, text, on_volume(AdminCommand::close, node));
    case Action::recover_volume:
      return expect_one(node, text, on_volume(AdminCommand::recover, node));
  }
  return refuse(node, text, "");
}

std::optional<Problem> verdict(const Node& node, const AdminResponse& response) {
  if (response.error) {
    Problem why = *response.error;
    why.error = kernel_errno(node, why.error);
    return why;
  }
  if (!response.already) return std::nullopt;
  // Where commands are content because it was so before, an attribute is not.
  switch (node.action) {
    case Action::map_device:
    case Action::add_path:
      return Problem{ProblemCode::busy, "it is there already", "", EEXIST};
    case Action::remap_device:
      return Problem{ProblemCode::busy, "it is open", "", EALREADY};
    default:
      return std::nullopt;
  }
}

}  // namespace rnbd::daemon
