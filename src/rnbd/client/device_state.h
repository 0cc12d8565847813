#pragma once
// The states of a device and the moves between them, as a table that a test walks.

#include "rnbd/client/remote_device.h"

namespace rnbd::client {

inline constexpr std::size_t kDeviceStates = 5;

// init -> open | failed | unmapped; open <-> closed; open, closed -> failed; failed -> closed by an
// administrator only; anything -> unmapped, the end.
bool may_move(DeviceState from, DeviceState to);

}  // namespace rnbd::client
