// Two simulated networks as one fabric.

#include "fabric/choice/choice_fabric.h"

#include "fabric/conformance.h"
#include "fabric/sim/test_harness.h"

namespace rnbd::fabric {
namespace {

using conformance::Conformance;
using conformance::Harness;
using conformance::Subject;

// A fabric nobody is reached by, and one that is asked for `tcp` only.
class Nowhere final : public Fabric {
 public:
  explicit Nowhere(Fabric& base) : base_(base), capabilities_(base.capabilities()) {}
  Loop& loop() override { return base_.loop(); }
  const Capabilities& capabilities() const override { return capabilities_; }
  std::size_t ways(const PathAddress&) override { return 0; }
  using Fabric::create_domain;
  Result<std::unique_ptr<Domain>> create_domain(const IncomingConnection&) override {
    return fail_errno(ENODEV);
  }
  Result<std::unique_ptr<Domain>> create_domain(const PathAddress&, std::size_t) override {
    return fail_errno(ENODEV);
  }
  Result<std::unique_ptr<Connection>> connect(const ConnectRequest&, Domain&,
                                              const ConnectionOptions&,
                                              ConnectionHandler&) override {
    return fail_errno(ENODEV);
  }
  Result<std::unique_ptr<Connection>> accept(std::unique_ptr<IncomingConnection>, Domain&,
                                             std::span<const std::byte>, const ConnectionOptions&,
                                             ConnectionHandler&) override {
    return fail_errno(ENODEV);
  }
  void reject(std::unique_ptr<IncomingConnection>, std::span<const std::byte>) override {}
  Result<std::unique_ptr<Listener>> listen(const Address&, ListenHandler&) override {
    return fail_errno(listen_error);
  }
  int listen_error = ENODEV;

 private:
  Fabric& base_;
  Capabilities capabilities_;  // what tests ask a harness for
};

// The simulator seen through a choice whose first fabric reaches nobody.
class ChoiceHarness final : public Harness {
 public:
  ChoiceHarness() : server_(sim_.server()), client_0_(sim_.client(0)), client_1_(sim_.client(1)) {}
  Fabric& server() override { return server_.choice; }
  Fabric& client(std::size_t index) override {
    return index == 0 ? client_0_.choice : client_1_.choice;
  }
  std::size_t client_count() const override { return 2; }
  Address listen_address() override { return sim_.listen_address(); }
  std::optional<Address> refusing_address() override { return sim_.refusing_address(); }
  std::optional<Address> silent_address() override { return sim_.silent_address(); }
  bool run_until(const std::function<bool()>& done, Duration limit) override {
    return sim_.run_until(done, limit);
  }

 private:
  struct Side {
    explicit Side(Fabric& base) : nowhere(base), choice({&nowhere, &base}) {}
    Nowhere nowhere;
    ChoiceFabric choice;
  };
  sim::SimHarness sim_{sim::Options{.seed = sim::seed_from_environment()}};
  Side server_;
  Side client_0_;
  Side client_1_;
};

std::unique_ptr<Harness> make_choice() { return std::make_unique<ChoiceHarness>(); }

INSTANTIATE_TEST_SUITE_P(Choice, Conformance, ::testing::Values(Subject{"choice", &make_choice}),
                         conformance::subject_name);

class Deaf final : public ListenHandler {
  void on_connect_request(std::unique_ptr<IncomingConnection>) override {}
};

class Choice : public ::testing::Test {
 protected:
  sim::SimHarness sim_{sim::Options{}};
  Nowhere nowhere_{sim_.server()};
  Deaf handler_;
};

TEST_F(Choice, AnAddressNobodyHasAWayToHasNoDomain) {
  ChoiceFabric choice({&nowhere_});
  EXPECT_EQ(choice.ways(PathAddress{}), 0U);
  EXPECT_EQ(choice.create_domain(PathAddress{}).error(), from_errno(ENODEV));
}

TEST_F(Choice, WaysAreCountedOverAllAndTakenInOrder) {
  ChoiceFabric choice({&nowhere_, &sim_.server()});
  const PathAddress address{.source = {}, .destination = sim_.listen_address()};
  EXPECT_EQ(choice.ways(address), 1U);
  auto domain = choice.create_domain(address, 0);
  ASSERT_TRUE(domain);
  EXPECT_STREQ((*domain)->capabilities().name, "sim");
  EXPECT_EQ(choice.create_domain(address, 1).error(), from_errno(ENODEV));
}

TEST_F(Choice, ListensWhereItCanAndFailsOnlyWhenNobodyListens) {
  ChoiceFabric both({&nowhere_, &sim_.server()});
  EXPECT_TRUE(both.listen(sim_.listen_address(), handler_));
  nowhere_.listen_error = EADDRINUSE;
  EXPECT_TRUE(both.listen(sim_.listen_address(), handler_));
  ChoiceFabric none({&nowhere_});
  EXPECT_EQ(none.listen(sim_.listen_address(), handler_).error(), from_errno(EADDRINUSE));
  Nowhere deviceless(sim_.server());
  ChoiceFabric taken({&deviceless, &nowhere_});  // the port is, which is worth more to know
  EXPECT_EQ(taken.listen(sim_.listen_address(), handler_).error(), from_errno(EADDRINUSE));
  nowhere_.listen_error = EPROTONOSUPPORT;
  EXPECT_EQ(none.listen(sim_.listen_address(), handler_).error(), from_errno(ENODEV));
}

}  // namespace
}  // namespace rnbd::fabric
