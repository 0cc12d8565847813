#pragma once
// Two simulated hosts for tests: a server, and a client with two loops.

#include "fabric/conformance.h"
#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

class SimHarness final : public conformance::Harness {
 public:
  explicit SimHarness(const Options& options, const FabricOptions& fabric = {})
      : world_(options),
        server_host_(world_.add_host("server")),
        client_host_(world_.add_host("client")),
        server_(server_host_.add_fabric(nullptr, fabric)),
        clients_{&client_host_.add_fabric(nullptr, fabric),
                 &client_host_.add_fabric(nullptr, fabric)} {}
  Fabric& server() override { return server_; }
  Fabric& client(std::size_t index) override { return *clients_[index]; }
  std::size_t client_count() const override { return 2; }
  Address listen_address() override { return server_host_.address(); }
  std::optional<Address> refusing_address() override { return server_host_.address_with_port(1); }
  std::optional<Address> silent_address() override { return *Address::parse("ip:10.9.9.9", 1234); }
  bool run_until(const std::function<bool()>& done, Duration limit) override {
    return world_.try_until(done, limit);
  }
  unsigned soak_rounds() const override { return 3; }

  World& world() { return world_; }
  Host& server_host() { return server_host_; }
  Host& client_host() { return client_host_; }
  Link& link() { return world_.link(client_host_, server_host_); }

 private:
  World world_;
  Host& server_host_;
  Host& client_host_;
  SimFabric& server_;
  SimFabric* clients_[2];
};

}  // namespace rnbd::fabric::sim
