#pragma once
// From what a server announces, believed only where it makes sense (safety goal S16), to what a
// device shows its users and how its requests are cut for the wire.

#include "block/device.h"
#include "rtrs/options.h"
#include "wire/rnbd.h"

namespace rnbd::client {

// How one message may look.
struct WireLimits {
  std::uint32_t block_size = 512;
  std::uint32_t max_transfer = 0;  // bytes of one read or write
  std::uint32_t max_discard = 0;   // bytes; 0: not supported
  std::uint32_t max_secure_erase = 0;
  std::uint32_t max_write_zeroes = 0;
  bool cache = false;
  bool fua = false;  // honoured by the server; only meaningful with a cache

  std::uint32_t most(
      block::Op op) const;  // bytes of one message; 0: not supported or without length
};

struct VolumeLimits {
  block::Limits shown;  // operations of any length: the queue cuts them
  WireLimits wire;
};

// bad_geometry when the announcement is impossible or the session cannot carry it.
Result<VolumeLimits> volume_limits(const wire::OpenResponse& response,
                                   const rtrs::SessionLimits& session, bool read_only);

// Can a session with these limits carry RNBD at all? bad_geometry if not.
std::error_code check_session(const rtrs::SessionLimits& session);

// May a device that users know as `before` go on as `now`? Growing and losing an optional operation
// are fine. A device that shrank, changed its blocks or got a cache its users do not know of must
// fail.
std::error_code check_reopened(const block::Limits& before, const block::Limits& now);

}  // namespace rnbd::client
