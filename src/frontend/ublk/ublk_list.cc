#include "frontend/ublk/ublk_list.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "frontend/ublk/control.h"

namespace rnbd::ublk {
namespace {

std::vector<std::uint32_t> device_ids() {
  std::vector<std::uint32_t> ids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/ublk-char", error)) {
    unsigned id = 0;
    if (std::sscanf(entry.path().filename().c_str(), "ublkc%u", &id) == 1) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

DeviceState state_of(std::uint16_t state) {
  switch (static_cast<abi::State>(state)) {
    case abi::State::live:
      return DeviceState::live;
    case abi::State::quiesced:
      return DeviceState::quiesced;
    case abi::State::fail_io:
      return DeviceState::failing;
    case abi::State::dead:
      break;
  }
  return DeviceState::dead;
}

ListedDevice listed(const ublksrv_ctrl_dev_info& info) {
  ListedDevice device;
  device.id = info.dev_id;
  device.tag = info.ublksrv_flags;
  device.state = state_of(info.state);
  device.owner = info.ublksrv_pid;
  device.owner_alive = info.ublksrv_pid > 0 && (::kill(info.ublksrv_pid, 0) == 0 || errno == EPERM);
  const std::uint64_t reissue = abi::kUserRecovery | abi::kUserRecoveryReissue;
  device.recoverable = (info.flags & reissue) == reissue;
  device.queues = info.nr_hw_queues;
  device.queue_depth = info.queue_depth;
  return device;
}

}  // namespace

const char* device_state_name(DeviceState state) {
  switch (state) {
    case DeviceState::dead:
      return "dead";
    case DeviceState::live:
      return "live";
    case DeviceState::quiesced:
      return "quiesced";
    case DeviceState::failing:
      return "failing";
  }
  return "unknown";
}

Result<std::vector<ListedDevice>> list_devices() {
  auto control = Control::open();
  if (!control) return fail(control.error());
  std::vector<ListedDevice> devices;
  for (const std::uint32_t id : device_ids()) {
    const auto info = control->info(id);
    if (info) devices.push_back(listed(*info));  // else it went meanwhile
  }
  return devices;
}

std::error_code driver_usable() {
  const auto control = Control::open();
  return control ? std::error_code{} : control.error();
}

std::error_code discard_device(std::uint32_t id, std::uint64_t tag, Duration limit) {
  auto control = Control::open();
  if (!control) return control.error();
  const auto info = control->info(id);
  if (!info) return info.error();
  const ListedDevice device = listed(*info);
  if (device.tag != tag) return from_errno(ENODEV);
  if (device.state == DeviceState::live && device.owner_alive) return from_errno(EBUSY);
  if (const auto error = control->stop(id, limit)) return error;
  return control->del(id, limit);
}

}  // namespace rnbd::ublk
