#pragma once
// The attribute commands of one daemon: list, read, write. Joins the projection with the daemon's
// state and commands, and remembers why writes failed. Lives on the home loop.

#include <functional>
#include <memory>
#include <string>

#include "daemon/admin/admin_server.h"
#include "daemon/tree/coalescer.h"
#include "daemon/tree/tree.h"

namespace rnbd::daemon {

// All a projection needs; may be carried to another thread.
struct TreeState {
  AdminResponse state{};
  LastErrors last_errors{};
  unsigned cpus = 1;

  Nodes nodes(const Scope& scope) const {
    return project({.state = state, .last_errors = last_errors, .cpus = cpus}, scope);
  }
};
using TreeStatePtr = std::shared_ptr<const TreeState>;  // shared by all who asked at one time

class Attributes final {
 public:
  using List = std::function<void(AdminReply)>;
  using Execute = std::function<void(const AdminRequest&, AdminReply)>;
  // Both answer on the home loop, now or later. Destroyed when they will not answer any more.
  Attributes(List list, Execute execute);

  static bool is_for(AdminCommand command);
  // One of the commands it is for.
  void handle(const AdminRequest& request, const AdminReply& reply);

  void look(Coalescer<TreeStatePtr>::Want want) { states_.want(std::move(want)); }
  // The answer's error has the errno of the write.
  void write(const std::string& path, const std::string& text, const AdminReply& reply);

 private:
  void take_state(const Coalescer<TreeStatePtr>::Want& told);
  void store(const Node& node, const std::string& text, const AdminReply& reply);
  void finish(const Node& node, std::optional<Problem> why, const AdminReply& reply);
  void forget_the_gone(const TreeState& state);

  const List list_;
  const Execute execute_;
  const unsigned cpus_;
  LastErrors last_errors_;
  Coalescer<TreeStatePtr> states_;
};

}  // namespace rnbd::daemon
