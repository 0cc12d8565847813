#include "fabric/sim/host.h"

#include <algorithm>

#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

Host::Host(World& world, std::string name, std::uint32_t index)
    : world_(world), name_(std::move(name)), index_(index) {}

Host::~Host() {
  // Whoever connected or listened here must be gone before the world is.
  RNBD_ASSERT(connections_.empty());
  RNBD_ASSERT(listeners_.empty());
}

Address Host::address_with_port(std::uint16_t port, std::size_t nth) const {
  Address result = addresses_[nth];
  result.set_port(port);
  return result;
}

SimLoop& Host::add_loop() { return world_.make_loop(this); }

SimFabric& Host::add_fabric(SimLoop* loop, const FabricOptions& options) {
  fabrics_.push_back(
      std::make_unique<SimFabric>(*this, loop == nullptr ? add_loop() : *loop, options));
  return *fabrics_.back();
}

void Host::crash(Death death) {
  if (!up_) return;
  up_ = false;
  ++life_;
  const auto connections = connections_;
  for (SimConnection* connection : connections) connection->lose_power(death);
}

void Host::restart() { up_ = true; }

void Host::freeze(Duration time) { frozen_until_ = std::max(frozen_until_, world_.now() + time); }

bool Host::frozen() const { return world_.now() < frozen_until_; }

SimListener* Host::find_listener(const Address& address) const {
  for (SimListener* listener : listeners_) {
    if (listener->hears(address)) return listener;
  }
  return nullptr;
}

std::uint16_t Host::next_port() {
  last_port_ = last_port_ == 65535 ? 40000 : static_cast<std::uint16_t>(last_port_ + 1);
  return last_port_;
}

}  // namespace rnbd::fabric::sim
