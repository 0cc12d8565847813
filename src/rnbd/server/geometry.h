#pragma once
// What a device can do, as an OPEN response says it: bytes become sectors, and what the message has
// no room for is made smaller, never larger.

#include "block/device.h"
#include "wire/rnbd.h"

namespace rnbd::server {

struct GeometryOptions {
  std::uint32_t max_io_size = 0;  // bytes one message can carry
  bool offer_write_zeroes = true;
};

// EINVAL for a device the protocol cannot describe (64 KiB blocks).
Result<wire::OpenResponse> describe(const block::Limits& limits, std::uint32_t device_id,
                                    const GeometryOptions& options);

}  // namespace rnbd::server
