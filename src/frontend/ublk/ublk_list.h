#pragma once
// The ublk devices of this machine, whoever made them, and the end of those nobody will take over.
// Blocks for a moment: not on a reactor.

#include <cstdint>
#include <string>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/loop.h"

namespace rnbd::ublk {

enum class DeviceState : std::uint8_t {
  dead,      // not started yet, or stopped
  live,      // served by `owner`
  quiesced,  // its daemon is gone: requests wait for a successor
  failing,   // its daemon is gone: requests fail
};
const char* device_state_name(DeviceState state);

struct ListedDevice {
  std::uint32_t id = 0;   // /dev/ublkb<id>
  std::uint64_t tag = 0;  // see Spec::tag
  DeviceState state = DeviceState::dead;
  int owner = 0;  // process that serves or served it
  bool owner_alive = false;
  bool recoverable = false;  // re-issues requests to a successor
  std::uint16_t queues = 0;
  std::uint16_t queue_depth = 0;
};

// ENOENT without the driver, EACCES without the right.
Result<std::vector<ListedDevice>> list_devices();

// What `driver_usable` says is why ublk devices cannot be made by us now; no error: they can.
std::error_code driver_usable();

// Ends a device that no successor will take over: its waiting requests fail. EBUSY while a living
// process serves it, ENODEV when it is not there or another's.
std::error_code discard_device(std::uint32_t id, std::uint64_t tag, Duration limit);

}  // namespace rnbd::ublk
