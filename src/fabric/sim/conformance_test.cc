// The simulated fabric keeps the contract of all fabrics.

#include "fabric/conformance.h"

#include "fabric/sim/fabric.h"
#include "fabric/sim/world.h"

namespace rnbd::fabric::conformance {
namespace {

class SimHarness : public Harness {
 public:
  SimHarness(const sim::Options& options, const sim::FabricOptions& fabric)
      : world_(options),
        server_host_(world_.add_host("server")),
        client_host_(world_.add_host("client")),
        server_(server_host_.add_fabric(nullptr, fabric)),
        clients_{&client_host_.add_fabric(nullptr, fabric), &client_host_.add_fabric(nullptr, fabric)} {}
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

 private:
  sim::World world_;
  sim::Host& server_host_;
  sim::Host& client_host_;
  sim::SimFabric& server_;
  sim::SimFabric* clients_[2];
};

std::unique_ptr<Harness> make_sim() {
  return std::make_unique<SimHarness>(sim::Options{.seed = sim::seed_from_environment()}, sim::FabricOptions{});
}

// Another seed, long tails, late timers, and none of the optional abilities.
std::unique_ptr<Harness> make_slow() {
  sim::Options options;
  options.seed = sim::seed_from_environment(77);
  options.latency.tail_chance = 4;
  options.timer_slack = std::chrono::microseconds(100);
  options.bytes_in_flight_max = 100'000;
  return std::make_unique<SimHarness>(options, sim::FabricOptions{.send_imm = false, .remote_invalidate = false});
}

INSTANTIATE_TEST_SUITE_P(Sim, Conformance, ::testing::Values(Subject{"sim", &make_sim}, Subject{"slow", &make_slow}),
                         subject_name);

}  // namespace
}  // namespace rnbd::fabric::conformance
