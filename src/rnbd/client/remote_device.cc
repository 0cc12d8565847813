#include "rnbd/client/remote_device_impl.h"

#include <algorithm>
#include <cerrno>

#include "base/event.h"
#include "base/log.h"
#include "base/mutation.h"

namespace rnbd::client {
namespace {

constexpr Duration kRetryDelayMax = std::chrono::seconds(5);
constexpr Duration kOpenPatience = std::chrono::seconds(30);  // a server may have to wake a disk
// Twice the time a frame may live in the network, after a path died beside others that live on.
constexpr Duration kFenceDelay = std::chrono::seconds(1);
// How often a device that may fail looks for requests that hang.
constexpr Duration kLookMin = std::chrono::milliseconds(5);
constexpr Duration kLookMax = std::chrono::seconds(5);

std::string display_name(const DeviceHost& host, const DeviceOptions& options) {
  return options.path + "@" + host.session_options().name;
}

}  // namespace

RemoteDeviceImpl::RemoteDeviceImpl(DeviceHost& host, std::uint64_t serial, DeviceOptions options,
                                   Opened opened)
    : host_(host),
      serial_(serial),
      options_(std::move(options)),
      name_(display_name(host, options_)),
      opened_(std::move(opened)),
      hold_timeout_(options_.hold_timeout),
      hold_timer_(Timer::of<&RemoteDeviceImpl::on_hold_expired>(host.home(), this)),
      retry_timer_(Timer::of<&RemoteDeviceImpl::on_retry>(host.home(), this)),
      patience_timer_(Timer::of<&RemoteDeviceImpl::on_patience_over>(host.home(), this)) {
  if (host.session_options().resume && options_.mode != AccessMode::ro) flushes_.inherit();
  for (const auto& lane : host_.lanes()) {
    auto part = std::make_shared<LaneDevice>();
    part->lane = lane.get();
    part->flushes = &flushes_;
    flushes_.watch(part->counters.changes);
    // The device cannot go before the lanes are told, and they answer after this message.
    part->lost = [this](std::uint32_t generation) {
      host_.home().post([this, generation] { on_lost(generation); });
    };
    lanes_.push_back(std::move(part));
  }
}

// ---- what users see ----

block::Limits RemoteDeviceImpl::limits() const {
  block::Limits limits = shown_;
  limits.size = size_.load(std::memory_order_relaxed);
  return limits;
}

Result<std::unique_ptr<block::Queue>> RemoteDeviceImpl::open_queue(Loop& loop) {
  for (const auto& part : lanes_) {
    if (&part->lane->loop() == &loop) return std::make_unique<RemoteQueue>(*part);
  }
  return fail_errno(EINVAL);  // a loop without a lane of this client
}

DeviceCounters RemoteDeviceImpl::counters() const {
  DeviceCounters now = sums();
  const DeviceCounters& before = counted_before_;
  now.reads -= before.reads;
  now.read_bytes -= before.read_bytes;
  now.writes -= before.writes;
  now.write_bytes -= before.write_bytes;
  now.others -= before.others;
  now.errors -= before.errors;
  now.queue -= before.queue;
  now.wire -= before.wire;
  if (state_ == DeviceState::closed) now.held = now.inflight;
  return now;
}

DeviceCounters RemoteDeviceImpl::sums() const {
  DeviceCounters sum;
  for (const auto& part : lanes_) {
    const LaneCounters& lane = part->counters;
    sum.reads += lane.reads.get();
    sum.read_bytes += lane.read_bytes.get();
    sum.writes += lane.writes.get();
    sum.write_bytes += lane.write_bytes.get();
    sum.others += lane.others.get();
    sum.errors += lane.errors.get();
    sum.inflight += lane.inflight.get();
    sum.queue += lane.queue.counts();
    sum.wire += lane.wire.counts();
  }
  return sum;
}

// ---- states ----

void RemoteDeviceImpl::tell(const char* event, LogLevel level, std::error_code error,
                            std::string_view what) const {
  const bool waited = state_ == DeviceState::closed;
  log_event({.name = event,
             .level = level,
             .volume = options_.path,
             .session = host_.session_options().name,
             .error = error,
             .since = waited ? host_.home().now() - lost_at_ : Duration{-1}},
            "{}", what);
}

void RemoteDeviceImpl::move_to(DeviceState next) {
  RNBD_ASSERT(may_move(state_, next));
  log_debug("<{}>: {} -> {}", printable(name_), device_state_name(state_), device_state_name(next));
  state_ = next;
  retry_timer_.disarm();
  if (next == DeviceState::closed) lost_at_ = host_.home().now();
  arm_hold();
}

// What is lost is held for so long; and a request may lie for so long with a server that lives.
void RemoteDeviceImpl::arm_hold() {
  hold_timer_.disarm();
  if (hold_timeout_ == Duration{0}) return;
  if (state_ == DeviceState::closed) hold_timer_.arm_at(lost_at_ + hold_timeout_);
  if (state_ == DeviceState::open)
    hold_timer_.arm_after(std::clamp(hold_timeout_ / 4, kLookMin, kLookMax));
}

void RemoteDeviceImpl::set_hold_timeout(Duration timeout) {
  hold_timeout_ = timeout;
  arm_hold();
}

// Runs `tell` on every lane's loop, then `then` here.
void RemoteDeviceImpl::tell_lanes(std::function<void(LaneDevice&)> tell,
                                  std::function<void()> then) {
  auto left = std::make_shared<std::size_t>(lanes_.size());  // shared by the calls on their way
  for (const auto& part : lanes_) {
    part->lane->loop().post([this, tell, then, left, part = part.get()] {
      tell(*part);
      if (!then) return;
      host_.home().post([then, left] {
        if (--*left == 0) then();
      });
    });
  }
}

void RemoteDeviceImpl::on_session_ready() {
  retry_delay_ = kRetryDelay;
  old_id_.reset();
  if (state_ == DeviceState::init || state_ == DeviceState::closed) reopen();
}

void RemoteDeviceImpl::on_session_lost(Stage stage, std::error_code why) {
  if (device_id_) old_id_ = device_id_;
  device_id_.reset();
  fence_first_ = false;  // the path accepted anew is the fence
  if (state_ == DeviceState::init) return open_failed(opening_ ? Stage::open : stage, why);
  if (state_ == DeviceState::unmapped) return unmap_next();
  if (state_ == DeviceState::failed) return;
  if (reviving_) return fail(from_errno(ECONNABORTED));
  last_error_ = why;
  tell_awaiting(from_errno(ECONNABORTED));
  if (state_ == DeviceState::closed) return retry_timer_.disarm();
  move_to(DeviceState::closed);
  tell_lanes([](LaneDevice& part) { part.shut(); }, nullptr);
}

void RemoteDeviceImpl::on_path_unfenced(std::function<void()> dry) {
  if (device_id_) old_id_ = device_id_;
  device_id_.reset();
  fence_first_ = false;  // the client closes them all
  retry_timer_.disarm();
  if (state_ == DeviceState::open) move_to(DeviceState::closed);
  if (leaving_) return dry();  // its queues are gone, and with them all that was under way
  run_dry(std::move(dry));
}

// Shuts every lane, then waits until nothing is under way on any. Before the device goes, as a
// queue ends only after its messages.
void RemoteDeviceImpl::run_dry(std::function<void()> then) {
  auto left = std::make_shared<std::size_t>(lanes_.size());  // shared by the calls on their way
  for (const auto& part : lanes_) {
    part->lane->loop().post([&home = host_.home(), then, left, part = part.get()] {
      part->shut();
      part->when_dry([&home, then, left] {
        home.post([then, left] {
          if (--*left == 0) then();
        });
      });
    });
  }
}

// A lane had a message come back with its fate unknown, or the server no longer knows the device.
void RemoteDeviceImpl::on_lost(std::uint32_t generation) {
  if (generation != generation_ || state_ != DeviceState::open) return;
  tell("volume_lost", LogLevel::warning, {}, "lost on the server, opening it anew");
  move_to(DeviceState::closed);
  fence_first_ = true;
  retry_delay_ = kRetryDelay;
  run_dry([&host = host_, serial = serial_] {
    RemoteDeviceImpl* self = host.find_device(serial);
    if (self == nullptr || self->state_ != DeviceState::closed || host.ready_session() == nullptr)
      return;
    self->need_fence();
    self->reopen();
  });
}

// Nothing is under way. What the server refused, or what was never sent, needs no fence.
void RemoteDeviceImpl::need_fence() {
  fence_first_ = fence_first_ && std::any_of(lanes_.begin(), lanes_.end(),
                                             [](const auto& part) { return part->unknown; });
}

void RemoteDeviceImpl::on_id_lost() {
  device_id_.reset();
  fence_first_ = false;
  if (state_ != DeviceState::open) return;
  tell("volume_lost", LogLevel::warning, {}, "closed on the server, opening it anew");
  move_to(DeviceState::closed);
  tell_lanes([](LaneDevice& part) { part.shut(); }, nullptr);
  retry_delay_ = kRetryDelay;
  reopen();
}

void RemoteDeviceImpl::fail(std::error_code why) {
  if (state_ == DeviceState::init) return open_failed(Stage::open, why);
  if (state_ == DeviceState::failed || state_ == DeviceState::unmapped) return;
  tell("volume_failed", LogLevel::error, why, fmt::format("failed: {}", why.message()));
  last_error_ = why;
  move_to(DeviceState::failed);
  tell_lanes([](LaneDevice& part) { part.fail(); }, nullptr);
  reviving_ = false;
  tell_awaiting(why);
}

void RemoteDeviceImpl::on_hold_expired() {
  if (state_ == DeviceState::open) return look_for_hung();
  fail(last_error_ ? last_error_ : make_error_code(Errc::device_failed));
}

void RemoteDeviceImpl::look_for_hung() {
  if (sums().inflight == 0) return arm_hold();
  const TimePoint then = host_.home().now() - hold_timeout_;
  auto hung = std::make_shared<std::atomic<bool>>(false);  // shared by the calls on their way
  tell_lanes(
      [then, hung](LaneDevice& part) {
        if (part.waits_since(then)) *hung = true;
      },
      [&host = host_, serial = serial_, hung] {
        RemoteDeviceImpl* self = host.find_device(serial);
        if (self == nullptr || self->state_ != DeviceState::open) return;
        *hung ? self->fail(Errc::no_answer) : self->arm_hold();
      });
}

// ---- opening ----

void RemoteDeviceImpl::reopen() {
  if (opening_ || fencing_) return;  // its end decides how to go on
  fence_first_&& device_id_ ? send_fence() : send_open();
}

// The answer to CLOSE says that nothing of this device runs on the server any more.
void RemoteDeviceImpl::send_fence() {
  fencing_ = true;
  host_.calls().close(host_.ready_session()->service_lane(), *device_id_,
                      [&host = host_, serial = serial_](std::error_code error) {
                        RemoteDeviceImpl* self = host.find_device(serial);
                        if (self == nullptr) return;
                        self->fencing_ = false;
                        if (!error) {
                          self->device_id_.reset();
                          self->fence_first_ = false;
                          self->retry_delay_ = kFenceDelay;
                        }
                        if (self->state_ == DeviceState::unmapped) return self->unmap_next();
                        self->retry_later();
                      });
}

void RemoteDeviceImpl::send_open() {
  opening_ = true;
  if (state_ == DeviceState::init)
    patience_timer_.arm_after(std::max(kOpenPatience, host_.session_options().connect_timeout));
  host_.calls().open(
      host_.ready_session()->service_lane(), {options_.mode, options_.path},
      [&host = host_, serial = serial_, path = options_.path](Result<wire::OpenResponse> response) {
        if (RemoteDeviceImpl* self = host.find_device(serial))
          return self->on_open_answer(std::move(response));
        if (response) host.on_late_open(path, response->device_id);
      });
}

void RemoteDeviceImpl::on_open_answer(Result<wire::OpenResponse> response) {
  opening_ = false;
  if (leaving_) {  // nobody waited for it
    if (response) host_.on_late_open(options_.path, response->device_id);
    return;
  }
  if (response && host_.ready_session() != nullptr) {
    device_id_ = response->device_id;
    host_.on_id_given(*this, *device_id_);
  }
  if (state_ == DeviceState::unmapped) return unmap_next();
  if (state_ == DeviceState::failed) return;
  const bool lost = !response && response.error() == Errc::path_lost;
  if (lost && state_ == DeviceState::init && host_.ready_session() != nullptr) return send_open();
  if (!response) return open_refused(response.error());
  if (host_.ready_session() == nullptr) return;  // lost again meanwhile; the next session opens it
  const auto limits =
      volume_limits(*response, host_.ready_session()->limits(), options_.mode == AccessMode::ro);
  std::error_code error = limits ? std::error_code{} : limits.error();
  if (!error && state_ == DeviceState::closed)
    error = check_reopened(this->limits(), limits->shown);
  if (!error && writes_lost(response->cache_identity)) error = Errc::writes_lost;
  if (!error) {
    cache_identity_ = response->cache_identity;
    return accept(response->device_id, *limits);
  }
  give_back_id();
  state_ == DeviceState::init ? open_failed(Stage::open, error) : fail(error);
}

// What the server opened for us is of no use. Nothing is opened again before it was closed.
void RemoteDeviceImpl::give_back_id() {
  fencing_ = true;
  host_.calls().close(host_.ready_session()->service_lane(), *device_id_,
                      [&host = host_, serial = serial_](std::error_code) {
                        RemoteDeviceImpl* self = host.find_device(serial);
                        if (self == nullptr) return;
                        self->fencing_ = false;
                        if (self->state_ == DeviceState::unmapped) return self->unmap_next();
                        if (self->state_ == DeviceState::closed && host.ready_session() != nullptr)
                          self->reopen();
                      });
  device_id_.reset();
}

// Did a server that was restarted forget writes it had acknowledged? Nobody will send them again
// (safety rule R9).
bool RemoteDeviceImpl::writes_lost(std::uint64_t cache_identity) const {
  if (cache_identity_ == 0 || cache_identity == cache_identity_ || broken(Rule::r9)) return false;
  return flushes_.unflushed();
}

void RemoteDeviceImpl::accept(std::uint32_t device_id, const VolumeLimits& limits) {
  const bool first = state_ == DeviceState::init;
  if (first) patience_timer_.disarm();
  if (first) shown_ = limits.shown;
  const bool grown = !first && limits.shown.size != size_.load(std::memory_order_relaxed);
  size_.store(limits.shown.size, std::memory_order_relaxed);
  last_error_.clear();
  tell("volume_open", LogLevel::info, {}, fmt::format("open, {} bytes", limits.shown.size));
  move_to(DeviceState::open);
  const auto open = [generation = ++generation_, device_id, limits](LaneDevice& part) {
    part.open(generation, device_id, limits);
  };
  // Users hear of it when every loop knows: what they do next must not find the old size, or no
  // device.
  reviving_ = false;
  if (std::exchange(look_again_, false)) look();
  tell_lanes(open, [&host = host_, serial = serial_, grown] {
    RemoteDeviceImpl* self = host.find_device(serial);
    if (self == nullptr) return;
    if (self->state_ == DeviceState::open) self->tell_awaiting({});
    if (self->opened_) return std::exchange(self->opened_, nullptr)(self);
    if (grown && self->watcher_ != nullptr) self->watcher_->on_resized(self->limits().size);
  });
}

void RemoteDeviceImpl::open_refused(std::error_code error) {
  if (state_ == DeviceState::init) return open_failed(Stage::open, error);
  if (!last_error_ || last_error_ != error)
    tell("volume_not_opened", LogLevel::warning, error,
         fmt::format("not opened again yet: {}", error.message()));
  last_error_ = error;
  if (reviving_) return fail(error);
  tell_awaiting(error);
  retry_later();
}

void RemoteDeviceImpl::retry_later() {
  if (host_.ready_session() == nullptr || state_ != DeviceState::closed) return;
  retry_timer_.arm_after(retry_delay_);
  retry_delay_ = std::min(retry_delay_ * 2, kRetryDelayMax);
}

void RemoteDeviceImpl::on_retry() {
  if (host_.ready_session() != nullptr) reopen();
}

void RemoteDeviceImpl::open_failed(Stage stage, std::error_code error) {
  patience_timer_.disarm();
  last_error_ = error;
  move_to(DeviceState::unmapped);
  leave();
  auto opened = std::exchange(opened_, nullptr);
  host_.home().post([opened, stage, error] { opened(tl::unexpected(Failure{stage, error})); });
}

// ---- ending ----

void RemoteDeviceImpl::unmap(std::function<void(std::error_code)> done) {
  RNBD_ASSERT(state_ != DeviceState::unmapped);
  unmapped_ = std::move(done);
  move_to(DeviceState::unmapped);
  tell_awaiting(from_errno(ENODEV));
  tell_lookers(from_errno(ENODEV));
  patience_timer_.arm_after(host_.session_options().connect_timeout);
  unmap_next();
}

void RemoteDeviceImpl::unmap_next() {
  if (leaving_ || fencing_) return;
  if (opening_ || looking_) return;  // its answer may bring an id to be closed
  if (!device_id_ || host_.ready_session() == nullptr) return leave();
  fencing_ = true;
  host_.calls().close(host_.ready_session()->service_lane(), *device_id_,
                      [&host = host_, serial = serial_](std::error_code) {
                        RemoteDeviceImpl* self = host.find_device(serial);
                        if (self == nullptr) return;
                        self->fencing_ = false;
                        self->device_id_.reset();
                        self->unmap_next();
                      });
}

void RemoteDeviceImpl::on_patience_over() {
  if (state_ == DeviceState::init) return open_failed(Stage::open, from_errno(ETIMEDOUT));
  if (state_ == DeviceState::unmapped) return leave();
  tell_lookers(from_errno(ETIMEDOUT));
  if (reviving_ && state_ == DeviceState::closed) return fail(from_errno(ETIMEDOUT));
  // Reviving still: the server has not done with what was failed.
  tell_awaiting(from_errno(std::exchange(reviving_, false) ? EBUSY : ETIMEDOUT));
}

// The lanes are told last; when they have answered nobody knows this device any more.
void RemoteDeviceImpl::leave() {
  if (std::exchange(leaving_, true)) return;
  patience_timer_.disarm();
  tell_lanes(
      [](LaneDevice& part) {
        RNBD_ASSERT(part.queues.empty());
        part.shut();
      },
      [this] {
        auto done = std::exchange(unmapped_, nullptr);
        auto opened = std::exchange(opened_, nullptr);  // closed before it was handed out
        host_.remove_device(*this);
        if (opened) opened(tl::unexpected(Failure{Stage::open, from_errno(ECANCELED)}));
        if (done) done({});
      });
}

}  // namespace rnbd::client
