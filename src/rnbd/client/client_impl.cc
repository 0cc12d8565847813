#include "rnbd/client/client_impl.h"

#include <algorithm>
#include <cerrno>

#include "base/event.h"

namespace rnbd::client {
namespace {

constexpr Duration kGreetAgain = std::chrono::milliseconds(100);
// Which part of connecting failed, for the words to the user.
Stage stage_of(const std::error_code& error) {
  for (const Errc errc : {Errc::not_rtrs_peer, Errc::version_mismatch, Errc::handshake_timeout,
                          Errc::handshake_closed, Errc::session_refused, Errc::protocol_violation,
                          Errc::bad_geometry}) {
    if (error == errc) return Stage::handshake;
  }
  return Stage::connect;
}

}  // namespace

std::string normal_path(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, end);
    path.remove_prefix(std::min(end + 1, path.size()));
    if (part.empty() || part == ".") continue;
    if (!out.empty()) out += '/';
    out += part;
  }
  return out;
}

ClientImpl::ClientImpl(std::span<Loop* const> loops, std::size_t home, SessionFactory factory,
                       ClientOptions options)
    : home_(*loops[home]),
      factory_(std::move(factory)),
      options_(std::move(options)),
      packets_timer_(Timer::of<&ClientImpl::on_packets_gone>(home_, this)),
      greet_timer_(Timer::of<&ClientImpl::on_greet_again>(home_, this)) {
  for (Loop* loop : loops) lanes_.push_back(std::make_unique<ClientLane>(*loop));
}

ClientImpl::~ClientImpl() {
  RNBD_ASSERT(devices_.empty());
  RNBD_ASSERT(session_ == nullptr);
}

// A device's answer may end devices, so walk over those there were.
template <class F>
void ClientImpl::each_device(F&& f) {
  std::vector<std::uint64_t> serials;
  for (const auto& device : devices_) serials.push_back(device->serial());
  for (const std::uint64_t serial : serials) {
    if (RemoteDeviceImpl* device = find_device(serial)) f(*device);
  }
}

// ---- commands ----

void ClientImpl::open_device(DeviceOptions options,
                             std::function<void(tl::expected<RemoteDevice*, Failure>)> done) {
  const auto refuse = [&](std::error_code error) {
    home_.post([done = std::move(done), error] {
      done(tl::unexpected(Failure{Stage::open, error}));
    });
  };
  if (options.path.size() > wire::kDeviceNameMax) return refuse(make_error_code(Errc::too_long));
  if (!wire::valid_device_name(options.path)) return refuse(from_errno(EINVAL));
  for (const auto& device : devices_) {
    if (device->state() == DeviceState::unmapped) continue;
    if (normal_path(device->options().path) == normal_path(options.path))
      return refuse(from_errno(EEXIST));
  }
  if (closed_) return refuse(make_error_code(Errc::session_closed));
  DeviceHost& host = *this;
  devices_.push_back(std::make_unique<RemoteDeviceImpl>(host, ++last_serial_, std::move(options),
                                                        std::move(done)));
  if (link_ == Link::none) return connect();
  if (link_ == Link::ready) devices_.back()->on_session_ready();
}

void ClientImpl::close_device(RemoteDevice& device, std::function<void(std::error_code)> done) {
  static_cast<RemoteDeviceImpl&>(device).unmap(std::move(done));
}

void ClientImpl::fail_device(RemoteDevice& device) {
  static_cast<RemoteDeviceImpl&>(device).fail(make_error_code(Errc::device_failed));
}

void ClientImpl::cancel_open(const std::string& path, std::error_code why) {
  each_device([&](RemoteDeviceImpl& device) {
    if (device.state() == DeviceState::init && device.options().path == path) device.fail(why);
  });
}

void ClientImpl::close(std::function<void()> done) {
  RNBD_ASSERT(!closed_);
  closed_ = std::move(done);
  if (link_ == Link::none) return home_.defer(closed_task_);
  if (link_ == Link::ending) return;
  session_->close();
}

std::vector<RemoteDevice*> ClientImpl::devices() {
  std::vector<RemoteDevice*> all;
  for (const auto& device : devices_) {
    if (device->state() != DeviceState::init && device->state() != DeviceState::unmapped)
      all.push_back(device.get());
  }
  return all;
}

RemoteDeviceImpl* ClientImpl::find_device(std::uint64_t serial) {
  for (const auto& device : devices_) {
    if (device->serial() == serial) return device.get();
  }
  return nullptr;
}

// A server may give the id of a device that it closed by force to the next one: nothing more may be
// sent under it.
void ClientImpl::on_id_given(RemoteDeviceImpl& device, std::uint32_t device_id) {
  each_device([&](RemoteDeviceImpl& other) {
    if (&other != &device && other.device_id() == device_id) other.on_id_lost();
  });
}

void ClientImpl::remove_device(RemoteDeviceImpl& device) {
  std::erase_if(devices_, [&](const auto& owned) { return owned.get() == &device; });
  home_.defer(closed_task_);
}

// Nobody waits for this open any more: give it back, unless the same name was opened anew and
// shares the id.
void ClientImpl::on_late_open(const std::string& path, std::uint32_t device_id) {
  const bool shared = std::any_of(devices_.begin(), devices_.end(), [&](const auto& device) {
    return device->options().path == path && device->state() != DeviceState::unmapped;
  });
  if (!shared && link_ == Link::ready)
    calls_.close(session_->service_lane(), device_id, [](std::error_code) {});
}

// ---- the session ----

void ClientImpl::connect() {
  auto session = factory_(*this, options_.session);
  if (!session) {
    each_device(
        [&](RemoteDeviceImpl& device) { device.on_session_lost(Stage::connect, session.error()); });
    return;
  }
  session_ = std::move(*session);
  link_ = Link::connecting;
  report_identity();
  session_->open();
}

void ClientImpl::report_identity() {
  if (!options_.on_identity || !session_) return;
  auto identity = session_->identity();
  if (identity == identity_) return;
  identity_ = std::move(identity);
  options_.on_identity(identity_);
}

void ClientImpl::on_session_connected() {
  link_ = Link::greeting;
  options_.session.resume.reset();  // done: a session after this one is a new one
  ++connect_count_;
  if (!std::exchange(lanes_attached_, true)) attach_lanes();
  if (const std::error_code error = check_session(session_->limits())) {
    log_event({.name = "session_unusable",
               .level = LogLevel::error,
               .session = options_.session.name,
               .error = error},
              "the session cannot be used: {}", error.message());
    each_device([&](RemoteDeviceImpl& device) {
      device.state() == DeviceState::init ? device.on_session_lost(Stage::handshake, error)
                                          : device.fail(error);
    });
    link_ = Link::ending;
    return session_->close();
  }
  session_->fenced() ? greet() : close_old_ids();
}

void ClientImpl::attach_lanes() {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    lanes_[i]->loop().post(
        [&lane = *lanes_[i], &carrier = session_->lane(i)] { lane.attach(carrier); });
  }
}

// Fence F2 of a server that knows no other: when it has closed everything that was open, nothing
// runs there any more, and after the lifetime of a packet nothing more can come over the lost path.
// All are closed before any is opened, because the server would give the same ids again.
void ClientImpl::close_old_ids() {
  const std::uint64_t round = ++closing_round_;
  auto left = std::make_shared<std::size_t>(1);  // shared by the calls on their way
  const auto one_done = [this, left, round](std::error_code error) {
    if (error) return;  // no proof: another loss begins a new round, or the path or time prove it
    if (--*left == 0 && round == closing_round_) on_ids_closed();
  };
  for (const auto& device : devices_) {
    if (!device->old_id()) continue;
    ++*left;
    calls_.close(session_->service_lane(), *device->old_id(), one_done);
  }
  one_done({});
}

void ClientImpl::on_ids_closed() {
  if (link_ != Link::greeting && link_ != Link::fencing) return;
  packets_timer_.arm_after(options_.session.packet_lifetime);
}

void ClientImpl::on_packets_gone() {
  session_->declare_fenced();
  go_on();
}

void ClientImpl::go_on() {
  ++closing_round_;
  packets_timer_.disarm();
  if (link_ == Link::greeting) return greet();
  link_ = Link::ready;
  each_device([](RemoteDeviceImpl& device) { device.on_session_ready(); });
}

void ClientImpl::on_session_unfenced() {
  if (link_ == Link::ready) link_ = Link::fencing;
  ++connect_count_;  // a greeting under way will be made anew
  packets_timer_.disarm();
  const std::uint64_t round = ++closing_round_;
  auto left = std::make_shared<std::size_t>(1);  // shared by the calls on their way
  const auto one_dry = [this, left, round] {
    const bool going_on = link_ == Link::fencing || link_ == Link::greeting;
    if (--*left == 0 && round == closing_round_ && going_on) close_old_ids();
  };
  each_device([&](RemoteDeviceImpl& device) {
    ++*left;
    device.on_path_unfenced(one_dry);
  });
  one_dry();
}

// By itself: the server took the path anew, or enough time has passed.
void ClientImpl::on_session_fenced() {
  if (link_ == Link::fencing || link_ == Link::greeting) go_on();
}

void ClientImpl::on_session_notice() {
  each_device([](RemoteDeviceImpl& device) { device.on_session_notice(); });
}

void ClientImpl::on_greet_again() {
  if (link_ == Link::greeting && session_->fenced()) greet();
}

void ClientImpl::greet() {
  greet_timer_.disarm();
  calls_.session_info(session_->service_lane(),
                      [this, connect_count = connect_count_](Result<std::uint8_t> version) {
                        on_greeted(connect_count, version);
                      });
}

void ClientImpl::on_greeted(std::uint64_t connect_count, Result<std::uint8_t> version) {
  if (connect_count != connect_count_ || link_ != Link::greeting) return;  // lost meanwhile
  if (!version) {
    if (version.error() == Errc::path_lost || version.error() == Errc::session_closed ||
        version.error() == from_errno(ENOTCONN)) {
      // Where the session goes on over other paths: once more. Else on_session_disconnected says
      // it.
      return greet_timer_.arm_after(kGreetAgain);
    }
    each_device([&](RemoteDeviceImpl& device) {
      if (device.state() == DeviceState::init)
        device.on_session_lost(Stage::handshake, version.error());
    });
  }
  link_ = Link::ready;
  log_event({.name = "session_connected", .session = options_.session.name}, "connected");
  each_device([](RemoteDeviceImpl& device) { device.on_session_ready(); });
}

void ClientImpl::on_session_disconnected(std::error_code why) {
  link_ = Link::away;
  packets_timer_.disarm();
  greet_timer_.disarm();
  log_event({.name = "session_disconnected",
             .level = why == Errc::session_closed ? LogLevel::info : LogLevel::warning,
             .session = options_.session.name,
             .error = why},
            "disconnected: {}", why.message());
  each_device([&](RemoteDeviceImpl& device) { device.on_session_lost(Stage::handshake, why); });
}

void ClientImpl::on_session_closed(std::error_code why) {
  link_ = Link::ending;
  packets_timer_.disarm();
  each_device([&](RemoteDeviceImpl& device) {
    device.on_session_lost(stage_of(why), why);
    if (device.state() == DeviceState::open || device.state() == DeviceState::closed)
      device.fail(why);
  });
  detach_lanes();
}

void ClientImpl::detach_lanes() {
  auto left = std::make_shared<std::size_t>(lanes_.size() + 1);  // shared by the calls on their way
  const auto one_done = [this, left] {
    if (--*left == 0) on_detached();
  };
  for (const auto& lane : lanes_) {
    lane->loop().post([this, &lane = *lane, one_done] {
      lane.detach([this, one_done] { home_.post(one_done); });
    });
  }
  calls_.when_idle([this, one_done] { home_.post(one_done); });
}

// The session is gone. Devices that were asked for meanwhile start with a new one.
void ClientImpl::on_detached() {
  session_.reset();
  link_ = Link::none;
  lanes_attached_ = false;
  if (closed_) return maybe_closed();
  const bool wanted = std::any_of(devices_.begin(), devices_.end(), [](const auto& device) {
    return device->state() == DeviceState::init;
  });
  if (wanted) connect();
}

// After close(): the caller is told when devices that were still being opened are gone as well.
void ClientImpl::maybe_closed() {
  if (closed_ && link_ == Link::none && devices_.empty()) std::exchange(closed_, nullptr)();
}

}  // namespace rnbd::client
