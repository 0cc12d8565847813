#include "frontend/nbd/shard.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace rnbd::nbd {

Shard::Shard(Reactor& reactor, Reactor& home, std::function<void(std::uint64_t)> on_gone)
    : reactor_(reactor), home_(home), on_gone_(std::move(on_gone)) {}

void Shard::adopt(ConnectionSetup setup) {
  // std::function copies, a socket does not: one holder, moved out of when the call runs.
  auto holder = std::make_shared<ConnectionSetup>(std::move(setup));
  reactor_.post([this, holder] { start(std::move(*holder)); });
}

void Shard::disconnect(std::uint64_t export_id) {
  reactor_.post([this, export_id] {
    for (auto& connection : connections_) {
      if (connection->export_id() == export_id) connection->close();
    }
  });
}

void Shard::pass(std::function<void()> done) {
  reactor_.post([this, done = std::move(done)] { home_.post(done); });
}

void Shard::start(ConnectionSetup setup) {
  const std::uint64_t export_id = setup.export_id;
  const std::string name = setup.device->name();
  auto connection = Connection::create(reactor_, std::move(setup), *this);
  if (!connection) {
    log_error("nbd: {}: cannot serve a client: {}", name, connection.error().message());
    return tell_gone(export_id);
  }
  connections_.push_back(std::move(*connection));
  connections_.back()->start();
}

void Shard::on_connection_closed(Connection& connection) {
  closed_.push_back(&connection);
  reactor_.defer(reap_task_);
}

void Shard::reap() {
  for (Connection* closed : std::exchange(closed_, {})) {
    const std::uint64_t export_id = closed->export_id();
    std::erase_if(connections_, [&](const auto& connection) { return connection.get() == closed; });
    tell_gone(export_id);
  }
}

void Shard::tell_gone(std::uint64_t export_id) {
  home_.post([this, export_id] { on_gone_(export_id); });
}

}  // namespace rnbd::nbd
