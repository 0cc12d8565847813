#pragma once
// Settings of the verbs fabric. The defaults are right for our own peers and for the kernel's.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/loop.h"

namespace rnbd::fabric::verbs {

struct Options {
  std::string device;  // use this device only, e.g. "mlx5_0"; empty: whichever serves the address
  unsigned port = 0;   // and this port of it; 0: any
  // Memory windows, where the device has them: one of type 2 for each exposure, bound besides the
  // copy that hide() makes, and one of type 1 for each chunk, its gate.
  bool windows = false;
  bool windows_of_software = false;  // rdma_rxe's too: for tests with a peer that means well

  int listen_backlog = 128;
  // A message waits so long for a posted receive, in steps of the RNR timer below.
  std::uint8_t rnr_retry = 6;   // of peers sending to us; 7 would mean for ever
  std::uint8_t rnr_timer = 28;  // IBTA code: 28 is 163.84 ms, so that a peer waits about 1 s
  std::uint8_t retry_count = 7;
  std::uint8_t ack_timeout = 0;  // IBTA exponent, 4.096 us << n; 0: what the CM derives

  Duration confirm_timeout = std::chrono::seconds(10);  // acceptor: from our yes to the peer's
  Duration drain_timeout = std::chrono::seconds(1);  // graceful close: posted work leaves in this
  Duration flush_timeout = std::chrono::seconds(2);  // after that a queue pair is taken apart

  Duration last_words = std::chrono::milliseconds(50);  // after the peer left: why it did

  std::uint32_t signal_interval = 16;  // one completion at least for so many work requests
  std::size_t inline_max = 128;        // local bytes up to here travel in the work request
  std::size_t block_size = 2u << 20;   // by which the bounce memory of a connection grows
  Duration trim_after = std::chrono::seconds(10);  // blocks unused for so long are given back
};

}  // namespace rnbd::fabric::verbs
