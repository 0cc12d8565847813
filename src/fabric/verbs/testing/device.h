#pragma once
// For tests: the RDMA device to test on. RNBD_TEST_RDMA_V4 and RNBD_TEST_RDMA_V6 name an address of
// this machine it serves ("10.0.0.1"); without them the tests that need a device are skipped, and
// say so.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "fabric/address.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::verbs {

inline constexpr const char* kNoDevice =
    "no RDMA device: set RNBD_TEST_RDMA_V4 to an address of this machine that one serves";

inline std::optional<Address> test_address(int family) {
  const char* text = std::getenv(family == AF_INET ? "RNBD_TEST_RDMA_V4" : "RNBD_TEST_RDMA_V6");
  if (text == nullptr || *text == '\0') return std::nullopt;
  const auto address = Address::parse(std::string("ip:") + text, 0);
  return address ? std::optional(*address) : std::nullopt;
}

// On the same network: a port nobody listens on, and a host that is not there.
inline Address refusing_address(const Address& address) {
  Address refusing = address;
  refusing.set_port(1);
  return refusing;
}

inline std::optional<Address> silent_address(const Address& address) {
  std::string text = address.to_string();
  const auto end = text.find_last_of(".:");
  text = text.substr(0, end + 1) + "77";
  const auto silent = Address::parse(text, 4791);
  return silent ? std::optional(*silent) : std::nullopt;
}

inline std::unique_ptr<Reactor> make_test_reactor() {
  auto reactor = Reactor::create({.name = "verbs_test", .cpu = -1, .spin_max = Duration::zero()});
  EXPECT_TRUE(reactor.has_value());
  return std::move(*reactor);
}

}  // namespace rnbd::fabric::verbs
