// What an administrator asks of a device, and what the server says of its size.

#include <cerrno>
#include <utility>

#include "base/log.h"
#include "rnbd/client/remote_device_impl.h"

namespace rnbd::client {
namespace {

constexpr Duration kAnswerPatience = std::chrono::seconds(30);

}  // namespace

// ---- the size ----

void RemoteDeviceImpl::on_session_notice() {
  if (state_ == DeviceState::open && host_.ready_session() != nullptr) return look();
  look_again_ = opening_;
}

void RemoteDeviceImpl::resize(std::uint64_t size,
                              std::function<void(std::error_code, std::uint64_t)> done) {
  if (state_ == DeviceState::unmapped) return done(from_errno(ENODEV), 0);
  if (state_ != DeviceState::open || host_.ready_session() == nullptr)
    return done(from_errno(ENOENT), 0);
  lookers_.push_back({size, std::move(done)});
  if (!patience_timer_.armed()) patience_timer_.arm_after(kAnswerPatience);
  look();
}

// OPEN of what is open: the server answers with the device as it is now.
void RemoteDeviceImpl::look() {
  if (std::exchange(looking_, true)) {
    look_again_ = true;
    return;
  }
  look_again_ = false;
  host_.calls().open(host_.ready_session()->service_lane(), {options_.mode, options_.path},
                     [&host = host_, serial = serial_, path = options_.path,
                      generation = generation_](Result<wire::OpenResponse> response) {
                       if (RemoteDeviceImpl* self = host.find_device(serial))
                         return self->on_look_answer(generation, std::move(response));
                       if (response) host.on_late_open(path, response->device_id);
                     });
}

void RemoteDeviceImpl::on_look_answer(std::uint32_t generation,
                                      Result<wire::OpenResponse> response) {
  looking_ = false;
  const bool ready = host_.ready_session() != nullptr;
  if (leaving_) {
    if (response) host_.on_late_open(options_.path, response->device_id);
    return;
  }
  if (state_ == DeviceState::unmapped) {
    if (response && ready) device_id_ = response->device_id;
    return unmap_next();
  }
  // Lost since: when it is opened anew that shows its size as well.
  if (state_ == DeviceState::closed || !ready) return tell_lookers(from_errno(ENOENT));
  if (response && generation == generation_) {
    const bool taken = device_id_ != response->device_id;
    device_id_ = response->device_id;
    host_.on_id_given(*this, *device_id_);
    // The server had closed it by force, and this opened it.
    if (taken && state_ == DeviceState::open) {
      tell_lookers(from_errno(ENOENT));
      return on_lost(generation_);
    }
  }
  if (state_ == DeviceState::failed) return tell_lookers(from_errno(ENOENT));
  if (look_again_ || generation != generation_) return look();
  if (!response) return tell_lookers(response.error());
  on_looked(*response);
}

void RemoteDeviceImpl::on_looked(const wire::OpenResponse& response) {
  const auto limits =
      volume_limits(response, host_.ready_session()->limits(), options_.mode == AccessMode::ro);
  if (!limits) return tell_lookers(limits.error());
  const std::uint64_t size = size_.load(std::memory_order_relaxed);
  const std::uint64_t there = limits->shown.size;
  if (there < size && !std::exchange(shrunk_, true)) {
    tell("volume_shrank", LogLevel::error, {},
         fmt::format("the volume has shrunk to {} bytes on its server: the device stays {} bytes, "
                     "what lay beyond is gone, and requests there fail",
                     there, size));
  }
  if (there >= size) shrunk_ = false;
  auto lookers = std::exchange(lookers_, {});
  if (lookers.empty() && there > size) take_size(*limits, there, [](std::error_code) {});
  for (const Looker& looker : lookers) {
    take_size(*limits, looker.size == 0 ? there : looker.size,
              [done = looker.done, there](std::error_code error) { done(error, there); });
  }
}

void RemoteDeviceImpl::take_size(const VolumeLimits& limits, std::uint64_t wanted,
                                 const Done& done) {
  const block::Limits before = this->limits();
  if (wanted == before.size) return done({});
  if (wanted < before.size) return done(from_errno(EBUSY));
  if (wanted > limits.shown.size || wanted % before.logical_block_size != 0)
    return done(from_errno(EINVAL));
  if (const std::error_code error = check_reopened(before, limits.shown)) return done(error);
  log_debug("<{}>: grows from {} to {} bytes", printable(name_), before.size, wanted);
  size_.store(wanted, std::memory_order_relaxed);
  VolumeLimits now = limits;
  now.shown.size = wanted;
  // Users hear of it when every loop knows.
  tell_lanes([generation = generation_, now](LaneDevice& part) { part.resized(generation, now); },
             [&host = host_, serial = serial_, done] {
               RemoteDeviceImpl* self = host.find_device(serial);
               if (self != nullptr && self->watcher_ != nullptr)
                 self->watcher_->on_resized(self->limits().size);
               done({});
             });
}

void RemoteDeviceImpl::tell_lookers(std::error_code error) {
  for (const Looker& looker : std::exchange(lookers_, {})) looker.done(error, 0);
}

// ---- another chance ----

void RemoteDeviceImpl::await_open(Done done) {
  awaiting_.push_back(std::move(done));
  patience_timer_.arm_after(kAnswerPatience);
}

void RemoteDeviceImpl::tell_awaiting(std::error_code error) {
  if (awaiting_.empty()) return;
  if (state_ != DeviceState::unmapped && lookers_.empty()) patience_timer_.disarm();
  for (const Done& done : std::exchange(awaiting_, {})) done(error);
}

void RemoteDeviceImpl::remap(Done done) {
  switch (state_) {
    case DeviceState::init:
      return done(from_errno(EBUSY));
    case DeviceState::open:
      return done(from_errno(EALREADY));
    case DeviceState::unmapped:
      return done(from_errno(ENODEV));
    case DeviceState::failed:
      return recover(std::move(done));
    case DeviceState::closed:
      break;
  }
  if (host_.ready_session() == nullptr) return done(from_errno(ECONNABORTED));
  await_open(std::move(done));
  if (!retry_timer_.armed()) return;  // it is being opened, or emptied first
  retry_timer_.disarm();
  retry_delay_ = kRetryDelay;
  reopen();
}

void RemoteDeviceImpl::recover(Done done) {
  if (state_ == DeviceState::open && flushes_.failed()) {
    tell("flush_forgiven", LogLevel::warning, {},
         "flushes are believed in again, at an administrator's word");
    flushes_.forgive();
    return done({});
  }
  if (state_ != DeviceState::failed) return remap(std::move(done));
  if (host_.ready_session() == nullptr) return done(from_errno(ECONNABORTED));
  await_open(std::move(done));
  if (std::exchange(reviving_, true)) return;
  // What was failed must be over everywhere: then nothing of it can be sent again.
  run_dry([&host = host_, serial = serial_] {
    RemoteDeviceImpl* self = host.find_device(serial);
    if (self != nullptr && self->reviving_ && self->state_ == DeviceState::failed) self->revive();
  });
}

void RemoteDeviceImpl::revive() {
  if (host_.ready_session() == nullptr) {
    reviving_ = false;
    return tell_awaiting(from_errno(ECONNABORTED));
  }
  tell("volume_revived", LogLevel::warning, {},
       "gets another chance, at an administrator's word; what was failed stays failed");
  flushes_.forgive();
  cache_identity_ = 0;
  fence_first_ = device_id_.has_value();
  need_fence();
  move_to(DeviceState::closed);
  tell_lanes([](LaneDevice& part) { part.revive(); }, nullptr);
  retry_delay_ = kRetryDelay;
  reopen();
}

}  // namespace rnbd::client
