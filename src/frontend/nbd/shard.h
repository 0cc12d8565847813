#pragma once
// The connections of one reactor. Made on the home thread, then used on its reactor's thread only;
// the home hears through callbacks which the shard posts to it.

#include <functional>
#include <memory>
#include <vector>

#include "frontend/nbd/connection.h"

namespace rnbd::nbd {

class Shard final : private ConnectionHandler {
 public:
  // `on_gone(export id)` runs on `home` after a connection and its queue are destroyed.
  Shard(Reactor& reactor, Reactor& home, std::function<void(std::uint64_t)> on_gone);

  // Any thread; in order.
  void adopt(ConnectionSetup setup);
  void disconnect(std::uint64_t export_id);
  // Goes through the reactor and back: `done` runs on `home` after everything posted before.
  void pass(std::function<void()> done);

 private:
  void start(ConnectionSetup setup);
  void on_connection_closed(Connection& connection) override;
  void reap();
  void tell_gone(std::uint64_t export_id);

  Reactor& reactor_;
  Reactor& home_;
  std::function<void(std::uint64_t)> on_gone_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> closed_;
  Task reap_task_ = Task::of<&Shard::reap>(this);
};

}  // namespace rnbd::nbd
