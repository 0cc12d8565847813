#include "daemon/tree/attributes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "daemon/tree/store.h"

namespace rnbd::daemon {
namespace {

// Reasons kept before those of vanished directories are looked for.
constexpr std::size_t kReasonsMax = 256;

AdminResponse failure(Problem problem) {
  AdminResponse response;
  response.error = std::move(problem);
  return response;
}

AdminResponse nothing_there(const std::string& path, int error) {
  return failure({ProblemCode::not_found,
                  fmt::format("there is no attribute '{}'", printable(path)),
                  "what it belongs to may be gone", error});
}

std::string trimmed(std::string path) {
  while (path.ends_with('/')) path.pop_back();
  path.erase(0, std::min(path.find_first_not_of('/'), path.size()));
  return path;
}

constexpr int kLinksMax = 8;

// Where a link at `path` leads, below the root.
std::string target_of(const Node& link) {
  return (std::filesystem::path("/" + link.path).parent_path() / link.text)
      .lexically_normal()
      .string()
      .substr(1);
}

// The path without the links on its way, as a file system would follow them; the last name is not
// followed. As it is where there are none, or too many.
std::string followed(const TreeState& state, std::string path) {
  std::size_t end = path.find('/');
  for (int links = 0; end != std::string::npos && links < kLinksMax;
       end = path.find('/', end + 1)) {
    const Nodes nodes = state.nodes({std::string_view(path).substr(0, end), Depth::node});
    if (nodes.empty()) break;  // nor is there anything below
    if (nodes[0].kind != NodeKind::link) continue;
    path = target_of(nodes[0]) + path.substr(end);
    end = 0;
    ++links;
  }
  return path;
}

}  // namespace

Attributes::Attributes(List list, Execute execute, Clock clock)
    : list_(std::move(list)),
      execute_(std::move(execute)),
      clock_(std::move(clock)),
      cpus_(std::max(1U, std::thread::hardware_concurrency())),
      states_([this](const Coalescer<TreeStatePtr>::Want& told) { take_state(false, told); },
              clock_),
      full_states_([this](const Coalescer<TreeStatePtr>::Want& told) { take_state(true, told); },
                   clock_) {}

bool Attributes::is_for(AdminCommand command) {
  return command == AdminCommand::list_attributes || command == AdminCommand::read_attribute ||
         command == AdminCommand::write_attribute;
}

void Attributes::take_state(bool with_users, const Coalescer<TreeStatePtr>::Want& told) {
  list_(with_users, [this, told](AdminResponse response) {
    auto state = std::make_shared<TreeState>();
    state->state = std::move(response);
    if (last_errors_.size() > kReasonsMax) forget_the_gone(*state);
    state->last_errors = last_errors_;
    state->cpus = cpus_;
    told(state);
  });
}

AdminReply Attributes::noting(const AdminReply& reply) const {
  return [last = last_command_, clock = clock_, reply](AdminResponse response) {
    last->answered(clock());
    reply(std::move(response));
  };
}

void Attributes::handle(const AdminRequest& request, const AdminReply& reply) {
  const std::string named = trimmed(request.target);
  if (request.command == AdminCommand::write_attribute) return write(named, request.text, reply);
  if (request.command == AdminCommand::list_attributes) return list_nodes(request, reply);
  look({named, Depth::node}, [named, reply](const TreeStatePtr& state) {
    const std::string path = followed(*state, named);
    const Nodes nodes = state->nodes({path, Depth::node});
    if (nodes.empty()) return reply(nothing_there(path, ENOENT));
    if (nodes[0].kind != NodeKind::attribute) {
      const bool link = nodes[0].kind == NodeKind::link;
      return reply(
          failure({ProblemCode::usage,
                   fmt::format("'{}' is {}, not an attribute", printable(path),
                               link ? "a link" : "a directory"),
                   link ? "it leads to " + nodes[0].text : "list it", link ? EINVAL : EISDIR}));
    }
    AdminResponse response;
    response.daemon = state->state.daemon;
    response.text = nodes[0].text;
    reply(std::move(response));
  });
}

void Attributes::list_nodes(const AdminRequest& request, const AdminReply& reply) {
  const bool names = request.depth == "names";
  const Depth depth = request.depth == "node" ? Depth::node : names ? Depth::children : Depth::all;
  const std::string named = trimmed(request.target);
  auto want = [named, depth, names, reply](const TreeStatePtr& state) {
    const std::string path = followed(*state, named);
    const Nodes nodes = state->nodes({path, depth});
    if (nodes.empty()) return reply(nothing_there(path, ENOENT));
    AdminResponse response;
    if (!names) response.daemon = state->state.daemon;
    for (const Node& node : nodes) {
      response.nodes.push_back(view_of(node));
      if (names) response.nodes.back().text.clear();
    }
    reply(std::move(response));
  };
  if (names && request.recent) return look_since(clock_() - kNamesAge, want);
  look({named, depth}, want);
}

void Attributes::write(const std::string& path, const std::string& text, const AdminReply& reply) {
  look({path, Depth::node}, [this, path, text, reply](const TreeStatePtr& state) {
    const Nodes nodes = state->nodes({followed(*state, path), Depth::node});
    if (nodes.empty())
      return reply(nothing_there(path, ENODEV));  // it was there when it was opened
    store(nodes[0], text, reply);
  });
}

void Attributes::store(const Node& node, const std::string& text, const AdminReply& reply) {
  auto request = request_of(node, text, cpus_);
  if (!request) return finish(node, request.error(), reply);
  if (!*request) return finish(node, std::nullopt, reply);
  execute_(**request, [this, node, reply](const AdminResponse& response) {
    finish(node, verdict(node, response), reply);
  });
}

void Attributes::finish(const Node& node, std::optional<Problem> why, const AdminReply& reply) {
  if (!why) {
    last_errors_.erase(node.last_error);
    return reply(AdminResponse{});
  }
  log_warning("{}: {}", printable(node.path), why->text());
  if (!node.last_error.empty()) last_errors_[node.last_error] = printable(why->text(), 1024);
  reply(failure(std::move(*why)));
}

void Attributes::forget_the_gone(const TreeState& state) {
  std::erase_if(last_errors_, [&](const auto& entry) {
    return state.nodes({entry.first, Depth::node}).empty();
  });
}

}  // namespace rnbd::daemon
