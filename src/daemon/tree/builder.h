#pragma once
// Collects the wanted nodes of the tree. What is out of scope costs a comparison and no formatting.

#include <set>
#include <string>
#include <string_view>

#include "daemon/tree/tree.h"

namespace rnbd::daemon {

// What a name from outside is called in a directory: '/' becomes '!', as in sysfs; never empty, a
// dot directory or longer than a file name may be.
std::string component(std::string_view name);

class Builder final {
 public:
  Builder(const Scope& scope, const LastErrors& last_errors)
      : scope_(scope), last_errors_(last_errors) {}

  // False: nothing of this directory or below it is wanted.
  bool touches(std::string_view directory) const;
  // False when the path is taken: the first of two things of one name is shown.
  bool directory(const std::string& path);
  void link(const std::string& path, std::string target);

  // `text` is called only if the attribute is wanted. Its text gets the newline.
  template <class Text>
  void attribute(const std::string& directory, std::string_view name, Text&& text) {
    if (Node* node = add(directory, name, NodeKind::attribute, 0444)) node->text = text() + "\n";
  }
  // Returns the node to be told what a write does, or null.
  template <class Text>
  Node* writable(const std::string& directory, std::string_view name, Action action, Text&& text) {
    Node* node = add(directory, name, NodeKind::attribute, 0644);
    if (node == nullptr) return nullptr;
    node->action = action;
    node->text = text() + "\n";
    return node;
  }
  // The reason the last write in this directory failed; an empty file when none did.
  void last_error(const std::string& directory);
  // What every device of the kernel's has: uevent, power/, subsystem.
  void device_files(const std::string& directory, std::string subsystem, std::string uevent = {});

  Nodes take() { return std::move(nodes_); }

 private:
  bool wanted(std::string_view path) const;
  Node* add(const std::string& directory, std::string_view name, NodeKind kind, std::uint32_t mode);
  Node* add(std::string path, NodeKind kind, std::uint32_t mode);

  const Scope scope_;
  const LastErrors& last_errors_;
  Nodes nodes_;
  std::set<std::string, std::less<>> names_;
};

// The parts of the two sides.
void add_client(Builder& builder, const TreeInput& input);
void add_server(Builder& builder, const TreeInput& input);

// Shared by both: what is told of a path and of stages.
std::string source_of(const PathView& path);
std::string destination_of(const PathView& path);
std::string hca_name(const PathView& path);
std::string hca_port(const PathView& path);
// latency and latency_histogram.
void add_latency(Builder& b, const std::string& dir, const std::vector<StageView>& stages);
// Names of the session's paths in the tree, all different.
std::vector<std::string> path_names(const SessionView& session);
// The word a command names the path by: its name, or where that is not enough its number.
std::string path_word(const SessionView& session, std::size_t index);

}  // namespace rnbd::daemon
