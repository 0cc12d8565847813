#pragma once
// The attribute tree of the kernel's RNBD and RTRS modules, computed from what a daemon tells about
// itself: directories, attributes with what they read, links. Pure, and nothing in it lives: a
// directory is there while what it shows is in the snapshot. docs/tree.md names every attribute.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

enum class NodeKind { directory, attribute, link };
const char* node_kind_name(NodeKind kind);
NodeKind parse_node_kind(std::string_view name);  // directory for a name we do not know

// What a write to an attribute does (store.h).
enum class Action {
  none,
  uevent,
  map_device,
  unmap_device,
  resize,
  remap_device,
  hold,
  recover_device,
  add_path,
  max_reconnect_attempts,
  mpath_policy,
  reconnect,
  disconnect,
  remove_path,
  reset,
  force_close,
  recover_volume,
};

struct Node {
  std::string path{};  // below the root, without a slash at its ends; empty: the root
  NodeKind kind = NodeKind::directory;
  std::uint32_t mode = 0;  // permission bits
  std::string text{};      // attribute: what it reads; link: its target
  Action action = Action::none;
  // What the action is done to, as commands name it.
  std::string device{}, session{}, path_word{}, volume{}, counters{};
  std::string last_error{};  // the attribute that tells why the last write failed
};
using Nodes = std::vector<Node>;

// Reasons of failed writes by the path of the last_error attribute that tells them.
using LastErrors = std::map<std::string, std::string>;

struct TreeInput {
  const AdminResponse& state;
  const LastErrors& last_errors;
  unsigned cpus = 1;  // numbers in cpu_migration_*
};

// Which part is wanted: formatting the rest would be for nothing.
enum class Depth { node, children, all };
struct Scope {
  std::string_view path{};  // the node
  Depth depth = Depth::all;
};

// In no order; parents before their children. A node of the other daemon's side is not there.
Nodes project(const TreeInput& input, const Scope& scope);

inline constexpr std::uint64_t kAttributeSize = 4096;  // what stat() tells

NodeView view_of(const Node& node);
Node node_of(const NodeView& view);  // without what a write would do

// Whether this shows how many use a device: that takes long to find out.
bool tells_users(const Scope& scope);

// Whose part of the tree this is, told by the path alone.
enum class Side { client, server, both };
Side side_of(std::string_view path);
// Directories that are there whatever the daemons have.
bool is_lasting(std::string_view path);

}  // namespace rnbd::daemon
