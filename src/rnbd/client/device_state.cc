#include "rnbd/client/device_state.h"

#include <cerrno>

namespace rnbd::client {
namespace {

constexpr bool kMoves[kDeviceStates][kDeviceStates] = {
    // to: init, open,  closed, failed, unmapped
    {false, true, false, true, true},     // init
    {false, false, true, true, true},     // open
    {false, true, false, true, true},     // closed
    {false, false, true, false, true},    // failed: nothing old is repeated, see recover()
    {false, false, false, false, false},  // unmapped
};

}  // namespace

bool may_move(DeviceState from, DeviceState to) {
  return kMoves[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
}

const char* device_state_name(DeviceState state) {
  switch (state) {
    case DeviceState::init:
      return "init";
    case DeviceState::open:
      return "open";
    case DeviceState::closed:
      return "closed";
    case DeviceState::failed:
      return "failed";
    case DeviceState::unmapped:
      return "unmapped";
  }
  return "unknown";
}

Result<AccessMode> parse_access_mode(std::string_view text) {
  for (const AccessMode mode : {AccessMode::ro, AccessMode::rw, AccessMode::migration}) {
    if (text == access_mode_name(mode)) return mode;
  }
  return fail_errno(EINVAL);
}

}  // namespace rnbd::client
