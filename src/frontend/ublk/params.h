#pragma once
// What a block::Device can do, in the ublk driver's words. Pure.

#include "block/device.h"
#include "frontend/ublk/abi.h"
#include "frontend/ublk/failure.h"

namespace rnbd::ublk {

// Bytes of one tag's buffer, which is also the longest read or write: what the device takes, at
// most `wanted`, in whole pages. 0: the device takes less than the driver allows to ask for.
std::uint32_t io_buffer_bytes(const block::Limits& limits, std::uint32_t wanted);

// The parameters of a device with such buffers. Fails, in words, for blocks the driver does not
// have (larger than a page) and for transfers smaller than a page.
Outcome<ublk_params> device_params(const block::Limits& limits, std::uint32_t io_bytes);

// Why a running device with these parameters cannot be served by a device of these limits; empty if
// it can. A size that differs is no reason.
std::string mismatch(const ublk_params& running, const block::Limits& limits);

}  // namespace rnbd::ublk
