#include "daemon/tree/tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "daemon/tree/builder.h"

namespace rnbd::daemon {
namespace {

constexpr std::array<std::string_view, 6> kLasting{"",        "block",           "class",
                                                   "devices", "devices/virtual", "module"};
constexpr std::size_t kComponentMax = 255;  // NAME_MAX

bool is_below(std::string_view path, std::string_view directory) {
  if (directory.empty()) return !path.empty();
  return path.size() > directory.size() && path.starts_with(directory) &&
         path[directory.size()] == '/';
}

std::string_view part(std::string_view path, std::size_t index) {
  for (; index > 0; --index) {
    const std::size_t slash = path.find('/');
    if (slash == std::string_view::npos) return {};
    path.remove_prefix(slash + 1);
  }
  return path.substr(0, path.find('/'));
}

// "rnbd7": a device of the client's.
bool is_device_name(std::string_view name) {
  if (!name.starts_with("rnbd") || name.size() == 4) return false;
  return name.find_first_not_of("0123456789", 4) == std::string_view::npos;
}

}  // namespace

const char* node_kind_name(NodeKind kind) {
  return kind == NodeKind::attribute ? "attribute" : kind == NodeKind::link ? "link" : "directory";
}

NodeKind parse_node_kind(std::string_view name) {
  if (name == "attribute") return NodeKind::attribute;
  return name == "link" ? NodeKind::link : NodeKind::directory;
}

NodeView view_of(const Node& node) {
  NodeView view{.path = node.path, .kind = node_kind_name(node.kind), .mode = node.mode};
  (node.kind == NodeKind::link ? view.target : view.text) = node.text;
  return view;
}

Node node_of(const NodeView& view) {
  Node node{.path = view.path, .kind = parse_node_kind(view.kind), .mode = view.mode & 0777U};
  node.text = node.kind == NodeKind::link ? view.target : view.text;
  return node;
}

bool is_lasting(std::string_view path) {
  return std::find(kLasting.begin(), kLasting.end(), path) != kLasting.end();
}

Side side_of(std::string_view path) {
  if (is_lasting(path)) return Side::both;
  const std::string_view top = part(path, 0);
  std::string_view name = part(path, 1);
  if (top == "devices") name = part(path, 2);
  const bool block = top == "block" || name == "block";
  if (name == "block") name = part(path, top == "devices" ? 3 : 2);
  if (block && name.empty()) return Side::both;
  if (block) return is_device_name(name) ? Side::client : Side::server;
  return name.find("server") == std::string_view::npos ? Side::client : Side::server;
}

bool tells_users(const Scope& scope) {
  return scope.depth == Depth::all || scope.path.ends_with("/users");
}

Nodes project(const TreeInput& input, const Scope& scope) {
  Builder builder(scope, input.last_errors);
  for (std::string_view path : kLasting) builder.directory(std::string(path));
  if (input.state.daemon.program == "rnbd-server")
    add_server(builder, input);
  else
    add_client(builder, input);
  return builder.take();
}

std::string component(std::string_view name) {
  std::string text(name.substr(0, kComponentMax));
  std::replace(text.begin(), text.end(), '/', '!');
  std::replace(text.begin(), text.end(), '\0', '!');
  if (text.empty() || text == "." || text == "..") text.insert(0, "!");
  return text;
}

bool Builder::wanted(std::string_view path) const {
  if (path == scope_.path) return true;
  if (scope_.depth == Depth::node || !is_below(path, scope_.path)) return false;
  const std::size_t start = scope_.path.empty() ? 0 : scope_.path.size() + 1;
  return scope_.depth == Depth::all || path.find('/', start) == std::string_view::npos;
}

bool Builder::touches(std::string_view directory) const {
  return directory == scope_.path || is_below(scope_.path, directory) ||
         is_below(directory, scope_.path);
}

// Names are remembered only where nodes are told apart: in what is wanted.
Node* Builder::add(std::string path, NodeKind kind, std::uint32_t mode) {
  if (!wanted(path) || !names_.insert(path).second) return nullptr;
  return &nodes_.emplace_back(Node{.path = std::move(path), .kind = kind, .mode = mode});
}

Node* Builder::add(const std::string& directory, std::string_view name, NodeKind kind,
                   std::uint32_t mode) {
  if (scope_.depth == Depth::node && scope_.path.size() != directory.size() + 1 + name.size())
    return nullptr;
  return add(fmt::format("{}/{}", directory, name), kind, mode);
}

bool Builder::directory(const std::string& path) {
  if (!touches(path)) return false;
  add(path, NodeKind::directory, 0755);
  return true;
}

void Builder::link(const std::string& path, std::string target) {
  if (Node* node = add(path, NodeKind::link, 0777)) node->text = std::move(target);
}

void Builder::last_error(const std::string& directory) {
  Node* node = add(directory, "last_error", NodeKind::attribute, 0444);
  if (node == nullptr) return;
  const auto at = last_errors_.find(node->path);
  if (at != last_errors_.end()) node->text = at->second + "\n";
}

void Builder::device_files(const std::string& directory, std::string subsystem,
                           std::string uevent) {
  if (Node* node = add(directory, "uevent", NodeKind::attribute, 0644)) {
    node->action = Action::uevent;
    node->text = std::move(uevent);
  }
  this->directory(directory + "/power");
  link(directory + "/subsystem", std::move(subsystem));
}

// ---- what paths tell ----

std::string source_of(const PathView& path) {
  if (!path.source_address.empty()) return path.source_address;
  const std::size_t at = path.name.find('@');
  return at == std::string::npos ? "" : path.name.substr(0, at);
}

std::string destination_of(const PathView& path) {
  if (!path.destination_address.empty()) return path.destination_address;
  const std::size_t at = path.name.find('@');
  if (at != std::string::npos) return path.name.substr(at + 1);
  return path.destination.empty() ? path.name : path.destination;
}

// An RDMA device and its port; on sockets "tcp" or "unix", and 0.
std::string hca_name(const PathView& path) {
  if (!path.device.empty()) return path.device.substr(0, path.device.find('/'));
  return destination_of(path).starts_with("unix:") ? "unix" : "tcp";
}

std::string hca_port(const PathView& path) {
  const std::size_t slash = path.device.find('/');
  return slash == std::string::npos ? "0" : path.device.substr(slash + 1);
}

std::string stages_text(const std::vector<StageView>& stages) {
  std::string text;
  for (const StageView& stage : stages)
    text +=
        fmt::format("{}{} count {} sum_us {} p50_us {} p90_us {} p99_us {} p999_us {} max_us {}",
                    text.empty() ? "" : "\n", stage.stage, stage.count, stage.sum_us, stage.p50_us,
                    stage.p90_us, stage.p99_us, stage.p999_us, stage.max_us);
  return text;
}

std::string histogram_text(const std::vector<StageView>& stages) {
  std::string text;
  for (const StageView& stage : stages) {
    text += (text.empty() ? "" : "\n") + stage.stage;
    for (std::size_t i = 0; i < stage.buckets.size(); ++i)
      if (stage.buckets[i] != 0) text += fmt::format(" <{}us {}", 1ULL << i, stage.buckets[i]);
  }
  return text;
}

void add_latency(Builder& b, const std::string& dir, const std::vector<StageView>& stages) {
  b.attribute(dir, "latency", [&] { return stages_text(stages); });
  b.attribute(dir, "latency_histogram", [&] { return histogram_text(stages); });
}

// Two paths between the same addresses, on other ports, are told apart by their number.
std::vector<std::string> path_names(const SessionView& session) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < session.paths.size(); ++i) {
    const PathView& path = session.paths[i];
    std::string name = component(path.name.empty() ? path.destination : path.name);
    if (std::find(names.begin(), names.end(), name) != names.end())
      name += fmt::format("#{}", i + 1);
    names.push_back(std::move(name));
  }
  return names;
}

std::string path_word(const SessionView& session, std::size_t index) {
  const PathView& path = session.paths[index];
  const auto same = std::count_if(session.paths.begin(), session.paths.end(),
                                  [&](const PathView& other) { return other.name == path.name; });
  if (same == 1 && !path.name.empty()) return path.name;
  return std::to_string(path.number != 0 ? path.number : index + 1);
}

}  // namespace rnbd::daemon
