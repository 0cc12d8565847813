#pragma once
// Settings of the iwarp fabric. The defaults are right for our own endpoints; every limit towards a
// peer is here, so that tests can shorten it.

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/loop.h"

namespace rnbd::fabric::iwarp {

// MPA lets either side demand CRC32C; then both use it. `automatic` demands it unless both ends are
// on one machine. `strict` demands it, and checks even large frames before their first byte is
// placed (one copy more).
enum class CrcPolicy : std::uint8_t { automatic, on, off, strict };

// `large` frames (64,512 bytes of payload) cost least; `mss` fits each frame to a TCP segment,
// which RFC 5044 section 5.1 recommends and hardware peers may need.
enum class FpduSize : std::uint8_t { large, mss };

// Which half of the 64-bit Immediate Data carries the 32 bits of RTRS (RFC 7306 does not say).
enum class ImmediateHalf : std::uint8_t { high, low };

struct Options {
  CrcPolicy crc = CrcPolicy::automatic;
  FpduSize fpdu = FpduSize::large;
  std::uint8_t mpa_revision =
      2;  // of our Requests: 2 with the enhanced block, 1 without (RFC 6581 section 10)
  ImmediateHalf immediate_half = ImmediateHalf::high;

  Duration request_timeout =
      std::chrono::seconds(5);  // responder: from TCP accept to a whole Request
  Duration decision_timeout = std::chrono::seconds(5);  // responder: from the Request to accept()
  Duration reply_timeout =
      std::chrono::seconds(10);                      // initiator: from the Request to a whole Reply
  Duration receive_grace = std::chrono::seconds(1);  // a message waits so long for a posted receive
  Duration drain_timeout =
      std::chrono::seconds(1);  // graceful close, Terminate: queued bytes leave in this
  Duration linger_timeout = std::chrono::seconds(2);    // after our FIN, until the peer's
  std::size_t linger_bytes_max = std::size_t{1} << 20;  // read and dropped in that time

  std::size_t handshakes_max = 1024;           // half-open, per listener
  std::size_t handshakes_per_source_max = 64;  // the same, from one host
  int listen_backlog = 1024;

  int socket_buffer = 0;                             // bytes each way; 0: the kernel's choice
  Duration user_timeout = std::chrono::seconds(30);  // TCP_USER_TIMEOUT; 0: the kernel's choice
};

}  // namespace rnbd::fabric::iwarp
