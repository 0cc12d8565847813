// The suite every fabric passes, on the RDMA device of this machine if there is one.
#include "fabric/conformance.h"

#include <array>

#include "fabric/verbs/testing/device.h"
#include "fabric/verbs/verbs_fabric.h"
#include "reactor/testing.h"

namespace rnbd::fabric::conformance {
namespace {

class VerbsHarness final : public Harness {
 public:
  explicit VerbsHarness(Address address, const verbs::Options& options = {})
      : address_(std::move(address)),
        reactor_(verbs::make_test_reactor()),
        server_(*reactor_, options),
        clients_{verbs::VerbsFabric(*reactor_, options), verbs::VerbsFabric(*reactor_, options)} {}

  Fabric& server() override { return server_; }
  Fabric& client(std::size_t index) override { return clients_[index]; }
  std::size_t client_count() const override { return clients_.size(); }
  Address listen_address() override { return address_; }
  std::optional<Address> refusing_address() override { return verbs::refusing_address(address_); }
  std::optional<Address> silent_address() override { return verbs::silent_address(address_); }
  bool knows_what_is_filled() const override { return true; }
  bool run_until(const std::function<bool()>& done, Duration limit) override {
    return done() || testing::run_until(*reactor_, done, limit);
  }
  bool enforces_gates() const override { return false; }
  bool enforces_chunk_bounds() const override { return false; }  // rdma_rxe: the memory's only
  bool enforces_windows() const override { return false; }
  bool pads_private_data() const override { return true; }
  bool receiver_knows_of_missing_receives() const override { return false; }

 private:
  Address address_;
  std::unique_ptr<Reactor> reactor_;
  verbs::VerbsFabric server_;
  std::array<verbs::VerbsFabric, 2> clients_;
};

std::unique_ptr<Harness> make_v4() {
  return std::make_unique<VerbsHarness>(*verbs::test_address(AF_INET));
}
// For the tests of gates only.
std::unique_ptr<Harness> make_windows() {
  verbs::Options options;
  options.windows = options.windows_of_software = true;
  return std::make_unique<VerbsHarness>(*verbs::test_address(AF_INET), options);
}
std::unique_ptr<Harness> make_v6() {
  return std::make_unique<VerbsHarness>(*verbs::test_address(AF_INET6));
}

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  if (verbs::test_address(AF_INET)) {
    all.push_back({"v4", &make_v4});
    all.push_back({"windows", &make_windows});
  }
  if (verbs::test_address(AF_INET6)) all.push_back({"v6", &make_v6});
  return all;
}

// Without a device there is nothing to run on.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Conformance);
INSTANTIATE_TEST_SUITE_P(Verbs, Conformance, ::testing::ValuesIn(subjects()), subject_name);

}  // namespace
}  // namespace rnbd::fabric::conformance
