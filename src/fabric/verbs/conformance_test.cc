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
  VerbsHarness(Address address, const verbs::Options& options)
      : address_(std::move(address)),
        type2_(options.windows == verbs::Windows::type2),
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
  bool enforces_windows() const override { return type2_; }
  bool guards_invalidation() const override { return false; }
  // rdma_rxe checks writes through a window against the memory it is bound to, not against it.
  bool enforces_window_bounds() const override { return false; }
  bool places_directly() const override { return false; }
  bool pads_private_data() const override { return true; }
  bool receiver_knows_of_missing_receives() const override { return false; }

 private:
  Address address_;
  bool type2_;
  std::unique_ptr<Reactor> reactor_;
  verbs::VerbsFabric server_;
  std::array<verbs::VerbsFabric, 2> clients_;
};

std::unique_ptr<Harness> make_v4() {
  return std::make_unique<VerbsHarness>(*verbs::test_address(AF_INET), verbs::Options{});
}
std::unique_ptr<Harness> make_v6() {
  return std::make_unique<VerbsHarness>(*verbs::test_address(AF_INET6), verbs::Options{});
}

std::unique_ptr<Harness> make_type2() {
  verbs::Options options;
  options.windows = verbs::Windows::type2;
  options.windows_of_software = true;
  return std::make_unique<VerbsHarness>(*verbs::test_address(AF_INET), options);
}

std::vector<Subject> subjects() {
  std::vector<Subject> all;
  if (verbs::test_address(AF_INET)) all.push_back({"v4", &make_v4});
  if (verbs::test_address(AF_INET)) all.push_back({"type2", &make_type2});
  if (verbs::test_address(AF_INET6)) all.push_back({"v6", &make_v6});
  return all;
}

// Without a device there is nothing to run on.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Conformance);
INSTANTIATE_TEST_SUITE_P(Verbs, Conformance, ::testing::ValuesIn(subjects()), subject_name);

}  // namespace
}  // namespace rnbd::fabric::conformance
