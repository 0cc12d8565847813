#pragma once
// The attribute commands of one daemon: list, read, write. Joins the projection with the daemon's
// state and commands, and remembers why writes failed. Lives on the home loop.

#include <algorithm>
#include <functional>
#include <memory>
#include <string>

#include "daemon/admin/admin_server.h"
#include "daemon/tree/coalescer.h"
#include "daemon/tree/last_command.h"
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
  // `with_users`: of block devices, see tells_users().
  using List = std::function<void(bool with_users, AdminReply)>;
  using Execute = std::function<void(const AdminRequest&, AdminReply)>;
  using Clock = Coalescer<TreeStatePtr>::Clock;
  // Both answer on the home loop, now or later. Destroyed when they will not answer any more.
  Attributes(List list, Execute execute, Clock clock = &Coalescer<TreeStatePtr>::steady);

  static bool is_for(AdminCommand command);
  // One of the commands it is for.
  void handle(const AdminRequest& request, const AdminReply& reply);

  // Of now, with all that `scope` shows.
  void look(const Scope& scope, Coalescer<TreeStatePtr>::Want want) {
    (tells_users(scope) ? full_states_ : states_).want(std::move(want));
  }
  // For names: as of after `since`, and of after the last command.
  void look_since(TimePoint since, Coalescer<TreeStatePtr>::Want want) {
    states_.want_since(std::max(since, last_command_->time()), std::move(want));
  }
  // The answer's error has the errno of the write.
  void write(const std::string& path, const std::string& text, const AdminReply& reply);

  // The reply to any other command goes through this, also to what `execute` is asked for: names
  // looked at from then on are newer.
  AdminReply noting(const AdminReply& reply) const;
  LastCommandPtr last_command() const { return last_command_; }

 private:
  void list_nodes(const AdminRequest& request, const AdminReply& reply);
  void take_state(bool with_users, const Coalescer<TreeStatePtr>::Want& told);
  void store(const Node& node, const std::string& text, const AdminReply& reply);
  void finish(const Node& node, std::optional<Problem> why, const AdminReply& reply);
  void forget_the_gone(const TreeState& state);

  const List list_;
  const Execute execute_;
  const Clock clock_;
  const unsigned cpus_;
  LastErrors last_errors_;
  const std::shared_ptr<LastCommand> last_command_ = std::make_shared<LastCommand>();
  Coalescer<TreeStatePtr> states_, full_states_;
};

}  // namespace rnbd::daemon
