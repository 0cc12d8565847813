// The simulated fabric keeps the contract of all fabrics.

#include "fabric/conformance.h"

#include "fabric/sim/test_harness.h"

namespace rnbd::fabric::conformance {
namespace {

std::unique_ptr<Harness> make_sim() {
  return std::make_unique<sim::SimHarness>(sim::Options{.seed = sim::seed_from_environment()},
                                           sim::FabricOptions{});
}

// Another seed, long tails, late timers, and none of the optional abilities.
std::unique_ptr<Harness> make_slow() {
  sim::Options options;
  options.seed = sim::seed_from_environment(77);
  options.latency.tail_chance = 4;
  options.timer_slack = std::chrono::microseconds(100);
  options.bytes_in_flight_max = 100'000;
  return std::make_unique<sim::SimHarness>(
      options, sim::FabricOptions{.send_imm = false, .remote_invalidate = false});
}

// Another seed, and gates that have keys.
std::unique_ptr<Harness> make_keyed() {
  return std::make_unique<sim::SimHarness>(sim::Options{.seed = sim::seed_from_environment(4)},
                                           sim::FabricOptions{.keyed_gates = true});
}

INSTANTIATE_TEST_SUITE_P(Sim, Conformance,
                         ::testing::Values(Subject{"sim", &make_sim}, Subject{"slow", &make_slow},
                                           Subject{"keyed", &make_keyed}),
                         subject_name);

}  // namespace
}  // namespace rnbd::fabric::conformance
