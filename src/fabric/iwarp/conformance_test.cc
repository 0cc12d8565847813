// The suite every fabric passes, over the three kinds of sockets, with CRC and without.

#include "fabric/conformance.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>

#include "fabric/iwarp/iwarp_fabric.h"
#include "fabric/iwarp/socket.h"
#include "reactor/testing.h"

namespace rnbd::fabric::conformance {
namespace {

std::unique_ptr<Reactor> make_reactor() {
  auto reactor = Reactor::create({.name = "conformance", .cpu = -1, .spin_max = Duration::zero()});
  EXPECT_TRUE(reactor.has_value());
  return std::move(*reactor);
}

class IwarpHarness final : public Harness {
 public:
  IwarpHarness(std::string listen_on, iwarp::Options options)
      : listen_on_(std::move(listen_on)),
        reactor_(make_reactor()),
        server_(*reactor_, options),
        clients_{iwarp::IwarpFabric(*reactor_, options), iwarp::IwarpFabric(*reactor_, options)} {}

  Fabric& server() override { return server_; }
  Fabric& client(std::size_t index) override { return clients_[index]; }
  std::size_t client_count() const override { return clients_.size(); }
  Address listen_address() override {
    if (listen_on_ != "unix") return Address::parse(listen_on_, 0).value();
    static std::atomic<int> count{0};
    const std::string name =
        "unix:@rnbd-conformance-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
    return Address::parse(name, 0).value();
  }
  std::optional<Address> refusing_address() override {
    if (listen_on_ == "unix") return Address::parse("unix:/nonexistent/rnbd.sock", 0).value();
    return Address::parse(listen_on_, 1).value();
  }
  // A socket that is listened on, and whose connections nobody ever looks at.
  std::optional<Address> silent_address() override {
    const Address any = listen_address();
    silent_ = std::move(*iwarp::make_socket(any.family()));
    EXPECT_EQ(::bind(silent_.get(), any.data(), any.length()), 0);
    EXPECT_EQ(::listen(silent_.get(), 8), 0);
    return iwarp::local_address_of(silent_.get());
  }
  bool knows_what_is_filled() const override { return true; }
  bool run_until(const std::function<bool()>& done, Duration limit) override {
    return done() || testing::run_until(*reactor_, done, limit);
  }

 private:
  std::string listen_on_;
  std::unique_ptr<Reactor> reactor_;
  iwarp::IwarpFabric server_;
  std::array<iwarp::IwarpFabric, 2> clients_;
  UniqueFd silent_;
};

std::unique_ptr<Harness> make_v4() {
  return std::make_unique<IwarpHarness>("ip:127.0.0.1", iwarp::Options{});
}
std::unique_ptr<Harness> make_v6() {
  iwarp::Options options;
  options.crc = iwarp::CrcPolicy::on;
  return std::make_unique<IwarpHarness>("ip:::1", options);
}
std::unique_ptr<Harness> make_unix() {
  return std::make_unique<IwarpHarness>("unix", iwarp::Options{});
}
std::unique_ptr<Harness> make_strict_mss() {
  iwarp::Options options;
  options.crc = iwarp::CrcPolicy::strict;
  options.fpdu = iwarp::FpduSize::mss;
  options.mpa_revision = 1;
  return std::make_unique<IwarpHarness>("ip:127.0.0.1", options);
}

INSTANTIATE_TEST_SUITE_P(Iwarp, Conformance,
                         ::testing::Values(Subject{"v4", &make_v4}, Subject{"v6crc", &make_v6},
                                           Subject{"unix", &make_unix},
                                           Subject{"strictmss", &make_strict_mss}),
                         subject_name);

}  // namespace
}  // namespace rnbd::fabric::conformance
