#include "rtrs/client/path.h"

#include <algorithm>

#include "base/event.h"
#include "base/probe.h"

RNBD_PROBE_DEFINE(rtrs_clt, reconnect_work);
RNBD_PROBE_DEFINE(rtrs_clt, close_conns);
RNBD_PROBE_DEFINE(rtrs_clt, rdma_error_recovery);

// The fields of all three.
#define RNBD_PATH_PROBE(name)                                                              \
  RNBD_PROBE(rtrs_clt, name, static_cast<int>(state_), attempts_, max_reconnect_attempts_, \
             counters_.reconnect_failures(), counters_.reconnects(), name_.c_str())

namespace rnbd::rtrs::client {
namespace {

// Between the attempts of a path that was never up yet: whoever opens the session waits for it.
constexpr Duration kFirstConnectDelayMax = std::chrono::seconds(5);

}  // namespace

Path::Path(std::vector<LaneImpl*> lanes, Random& random, PathHandler& handler, PathOptions options)
    : lanes_(std::move(lanes)),
      home_(lanes_.front()->loop()),
      random_(random),
      handler_(handler),
      options_(std::move(options)),
      name_(options_.address.to_string()),
      counters_(lanes_.size(), home_.cpu_count()),
      heartbeat_(home_, options_.heartbeat, *this),
      timer_(Timer::of<&Path::on_timer>(home_, this)),
      first_conn_(options_.first_conn),
      recon_cnt_(options_.reconnects),
      max_reconnect_attempts_(options_.max_reconnect_attempts) {}

Path::Hello::Hello(Path& owner) : ControlRequest({.kind = wire::ControlKind::hello}), path(owner) {
  done = [](Request& request, std::error_code error) {
    auto& self = static_cast<Hello&>(request);
    self.state = State::none;
    self.path.on_hello_done(error);
  };
}

void Path::transition(PathState next) {
  RNBD_ASSERT(path_move_allowed(state_, next));
  state_ = next;
  handler_.on_path_state();
}

// With how long it had been up, or lost, before.
void Path::tell(const char* event, LogLevel level, std::error_code error, std::string_view what) {
  const TimePoint before = turned_at_;
  const TimePoint now = turned_at_ = home_.now();
  log_event({.name = event,
             .level = level,
             .session = options_.session_name,
             .path = name_,
             .error = error,
             .since = before == TimePoint{} ? Duration{-1} : now - before},
            "path {} {}", name_, what);
}

template <class Call>
void Path::command(std::size_t cid, Call call) {
  lanes_[cid]->loop().post(
      [channel = channels_[cid].get(), call = std::move(call)] { call(*channel); });
}

// ---- Establishment ----

void Path::connect() {
  if (state_ == PathState::reconnecting) transition(PathState::connecting);
  RNBD_ASSERT(state_ == PathState::connecting);
  RNBD_ASSERT(channels_.empty());
  timer_.disarm();
  ++recon_cnt_;
  handler_.on_path_state();
  auto domain = lanes_.front()->fabric().create_domain(options_.address, way_);
  if (!domain) return fail(domain.error());
  domain_ = std::move(*domain);
  open_next_channel();
}

void Path::open_next_channel() {
  const std::size_t cid = channels_.size();
  const wire::ConnectRequest request{
      .cid = static_cast<std::uint16_t>(cid),
      .cid_num = static_cast<std::uint16_t>(lanes_.size()),
      .recon_cnt = recon_cnt_,
      .sess_uuid = options_.sess_uuid,
      .paths_uuid = options_.paths_uuid,
      // While another path is up the session is there; a server that does not know it is another.
      .first_conn = first_conn_ && !(cid == 0 && handler_.any_path_up()),
  };
  const ConnectCommand parameters{
      .address = options_.address,
      .request = wire::encode_connect_request(request),
      .domain = domain_.get(),
      .timeout = options_.connect_timeout,
      .limits = limits_,
      .permits = cid == 0 ? PermitRange{} : handler_.permits_of(request.cid),
  };
  channels_.push_back(std::make_unique<Channel>(
      *lanes_[cid], home_, static_cast<ChannelHandler&>(*this), counters_.of(cid), health_));
  command(cid, [parameters](Channel& channel) { channel.connect(parameters); });
}

void Path::on_channel_connected(std::uint16_t cid, const std::vector<std::byte>& bytes,
                                const fabric::PathAddress& address, const char* digest) {
  if (state_ != PathState::connecting) return;
  auto accept = wire::parse_connect_accept(bytes, cid == 0);
  if (!accept) return fail(accept.error());
  if (cid == 0) {
    name_ = address.to_string();
    connected_ = address;
    digest_ = digest;
    limits_ = *accept;
    extension_ = wire::parse_extension(bytes);
    first_conn_ = true;  // from now on this path may bring the session back
    if (auto error = handler_.agree(limits_, extension_)) return fail(error);
  }
  if (channels_.size() < lanes_.size()) return open_next_channel();
  send_info();
}

void Path::send_info() {
  info_sent_ = true;
  timer_.arm_after(options_.connect_timeout);
  command(0, [name = options_.session_name, limits = limits_, permits = handler_.permits_of(0)](
                 Channel& channel) { channel.send_info(name, limits, permits); });
}

void Path::on_info_response(const std::vector<std::byte>& bytes) {
  if (state_ != PathState::connecting || !info_sent_) return;
  auto chunks = wire::parse_info_response(bytes, limits_);
  if (!chunks) return fail(chunks.error());
  loss_ = handler_.next_loss();
  const bool fences = extension_ && (extension_->features & wire::kFeatureFence) != 0;
  for (std::size_t cid = 0; cid < channels_.size(); ++cid) {
    const PermitRange permits = handler_.permits_of(static_cast<std::uint16_t>(cid));
    const auto first = chunks->begin() + permits.first;
    command(cid, [slice = std::vector<wire::RemoteChunk>(first, first + permits.count),
                  limits = handler_.session_limits(),
                  fences](Channel& channel) { channel.activate(slice, limits, fences); });
  }
}

void Path::on_channel_active(std::uint16_t cid) {
  if (state_ != PathState::connecting) return;
  if (cid == 0 && extension_) {
    hello_.state = Hello::State::owed;
    say_hello();
  }
  if (++active_ == lanes_.size()) up();
}

// The first message to a server of ours. Without a permit it waits for a heartbeat to remind us.
void Path::say_hello() {
  if (lanes_.front()->submit_over(*channels_.front(), hello_)) hello_.state = Hello::State::sent;
}

// Whatever the server answered, it has heard us.
void Path::on_hello_done(std::error_code error) {
  greeted_ = error != Errc::path_lost && error != Errc::session_closed;
  if (greeted_) handler_.on_path_greeted();
}

void Path::up() {
  timer_.disarm();
  attempts_ = 0;
  was_up_ = true;
  last_error_ = {};
  logged_error_ = {};
  if (ever_connected_) counters_.reconnected();
  ever_connected_ = true;
  transition(PathState::connected);
  heartbeat_.restart(extension_ ? own_heartbeat(options_.fast_heartbeat) : options_.heartbeat);
  tell("path_connected", LogLevel::info, {},
       fmt::format("connected: {} connections, queue depth {}, max io {}", lanes_.size(),
                   limits_.queue_depth, limits_.max_io_size));
  if (auto done = std::exchange(reconnected_, nullptr)) done({});
  handler_.on_path_connected(*this);
}

void Path::on_timer() {
  if (state_ == PathState::reconnecting) {
    RNBD_PATH_PROBE(reconnect_work);
    return connect();
  }
  fail(Errc::handshake_timeout);
}

// ---- The end of an attempt ----

void Path::fail(std::error_code why) {
  RNBD_PATH_PROBE(rdma_error_recovery);
  if (state_ == PathState::connecting) {
    transition(PathState::connecting_error);
  } else if (state_ == PathState::connected) {
    transition(PathState::reconnecting);
  } else {
    return;
  }
  // The same cause again and again is worth one line.
  if (why != logged_error_) {
    tell(was_up_ ? "path_lost" : "path_not_connected", LogLevel::warning, why,
         fmt::format("{}: {}", was_up_ ? "lost" : "not connected", why.message()));
    logged_error_ = why;
  }
  tear_down(why, false);
}

void Path::close(std::error_code why) {
  fate_ = Errc::session_closed;
  switch (state_) {
    case PathState::connecting:
    case PathState::connecting_error:
    case PathState::connected:
    case PathState::reconnecting:
      break;
    case PathState::closing:
      last_error_ = why;
      return;
    case PathState::closed:
    case PathState::dead:
      return handler_.on_path_closed(*this, why);
  }
  transition(PathState::closing);
  if (tearing_down_) {
    last_error_ = why;
    return;
  }
  tear_down(why, true);
}

void Path::disconnect() {
  if (state_ == PathState::closed || state_ == PathState::closing) return;
  at_once_ = false;
  transition(PathState::closing);
  if (tearing_down_) {
    last_error_ = Errc::disconnected;
    return;
  }
  tear_down(Errc::disconnected, true);
}

void Path::reconnect(Done done) {
  const bool possible = state_ == PathState::closed || state_ == PathState::reconnecting ||
                        state_ == PathState::connected;
  if (!possible || reconnected_) return done(from_errno(EBUSY));
  reconnected_ = std::move(done);
  attempts_ = 0;
  if (state_ == PathState::closed) {
    transition(PathState::reconnecting);
    return connect();
  }
  if (state_ == PathState::reconnecting && !tearing_down_) return connect();
  at_once_ = true;
  if (state_ != PathState::connected) return;
  // The server refuses the path until it has done with what it was: that is no failure yet.
  reconnect_patience_ = home_.now() + options_.connect_timeout;
  fail(Errc::disconnected);
}

void Path::try_now() {
  if (state_ == PathState::reconnecting && timer_.armed()) connect();
}

void Path::tear_down(std::error_code why, bool graceful) {
  RNBD_PATH_PROBE(close_conns);
  tearing_down_ = true;
  last_error_ = why;
  heartbeat_.stop();
  timer_.disarm();
  if (channels_.empty()) return home_.defer(torn_down_task_);
  for (std::size_t cid = 0; cid < channels_.size(); ++cid) {
    command(cid, [why, graceful](Channel& channel) { channel.close(why, graceful); });
  }
}

void Path::on_channel_closed(std::uint16_t, std::error_code why) {
  ++closed_;
  const bool in_info = state_ == PathState::connecting && info_sent_;
  if (in_info && (why == Errc::peer_closed || why == std::errc::connection_reset))
    why = Errc::session_refused;
  fail(why);
  if (closed_ < channels_.size()) return;
  // Not before the last connection is gone: until then a request may still be taking effect
  // somewhere.
  const std::error_code fate = fate_ ? fate_ : make_error_code(Errc::path_lost);
  const LossId loss = fate_ ? 0 : loss_;
  for (std::size_t cid = 0; cid < channels_.size(); ++cid) {
    command(cid, [fate, loss](Channel& channel) { channel.release(fate, loss); });
  }
}

void Path::on_channel_released(std::uint16_t, std::size_t lost) {
  lost_ += lost;
  if (++released_ == channels_.size()) torn_down();
}

void Path::torn_down() {
  const bool was_up = std::exchange(was_up_, false);
  RNBD_ASSERT(hello_.state != Hello::State::sent);
  const bool unfenced = std::exchange(lost_, 0) != 0;
  const LossId loss = std::exchange(loss_, 0);
  channels_.clear();
  domain_.reset();
  limits_ = {};
  active_ = closed_ = released_ = 0;
  info_sent_ = tearing_down_ = false;
  hello_.state = Hello::State::none;
  extension_.reset();
  digest_ = "";
  greeted_ = false;
  health_.slow = false;
  const std::error_code why = last_error_;
  if (unfenced) handler_.on_path_unfenced(*this, loss);
  if (was_up) handler_.on_path_lost(*this, why);
  // The handler may have closed us. Closing without channels ends in a call of its own.
  if (tearing_down_) return;
  if (state_ == PathState::closing) {
    transition(PathState::closed);
    if (auto done = std::exchange(reconnected_, nullptr)) done(why);
    handler_.on_path_closed(*this, why);
    return;
  }
  if (state_ == PathState::connecting_error && nobody_there(why) && take_next_way()) {
    transition(PathState::reconnecting);
    return connect();
  }
  if (was_up) way_ = 0;
  after_failure();
}

bool Path::nobody_there(std::error_code why) {
  return why == Errc::connect_rejected || why == std::errc::connection_refused ||
         why == std::errc::timed_out || why == std::errc::host_unreachable ||
         why == std::errc::network_unreachable || why == std::errc::no_such_device ||
         why == std::errc::address_not_available;
}

// Nobody answered there by this way (RDMA, say): perhaps by another, before it counts as a failure.
bool Path::take_next_way() {
  const std::size_t ways = lanes_.front()->fabric().ways(options_.address);
  way_ = way_ + 1 < ways ? way_ + 1 : 0;
  return way_ != 0;
}

void Path::after_failure() {
  const std::error_code why = last_error_;
  if (state_ == PathState::connecting_error) {
    if (ever_connected_) counters_.reconnect_failed();
    handler_.on_path_failed(*this, why);
    if (state_ != PathState::connecting_error) return;  // closed by the handler
    transition(PathState::reconnecting);
  }
  if (std::exchange(at_once_, false)) return connect();
  if (reconnected_ && home_.now() >= reconnect_patience_) std::exchange(reconnected_, nullptr)(why);
  const bool out_of_attempts = max_reconnect_attempts_ >= 0 && attempts_ >= max_reconnect_attempts_;
  if (out_of_attempts || why == Errc::queue_depth_changed) {
    tell("path_given_up", LogLevel::error, why, fmt::format("given up: {}", why.message()));
    transition(PathState::closing);
    return tear_down(why, false);
  }
  retry_later();
}

// The first retry comes quickly, as most losses are short; then the delay doubles up to its
// maximum. A little randomness keeps many clients of one server apart.
void Path::retry_later() {
  Duration delay = options_.reconnect_delay / 8;
  if (attempts_ > 0) {
    const int doublings = std::min(attempts_ - 1, 16);
    delay = std::min(options_.reconnect_delay * (1 << doublings), options_.reconnect_delay_max);
    if (!ever_connected_) delay = std::min(delay, kFirstConnectDelayMax);  // somebody waits for us
  }
  ++attempts_;
  const auto jitter = random_.below(static_cast<std::uint64_t>(delay.count() / 4 + 1));
  timer_.arm_after(delay + Duration(static_cast<Duration::rep>(jitter)));
}

// ---- Heartbeat and report ----

void Path::on_heartbeat_answer() {
  heartbeat_.on_answer();
  health_.latency.store(heartbeat_.latency().count(), std::memory_order_relaxed);
  handler_.on_path_latency();
  if (hello_.state == Hello::State::owed) say_hello();
}

// From a server that did not announce it the word means nothing we know.
void Path::on_notice() {
  if (extension_ && (extension_->features & wire::kFeatureNotice) != 0) handler_.on_path_notice();
}

void Path::send_heartbeat() { channels_.front()->send_heartbeat(wire::kHeartbeatImmediate); }

void Path::on_heartbeat_lost() { fail(Errc::heartbeat_lost); }

PathInfo Path::info() const {
  PathInfo info{.address = options_.address,
                .name = name_,
                .connected = connected_,
                .state = state_,
                .fabric = domain_ ? domain_->capabilities().name : "",
                .device = domain_ ? domain_->device() : fabric::DeviceName{},
                .digest = digest_,
                .last_error = last_error_,
                .latency = heartbeat_.latency()};
  counters_.fill(info);
  info.slow = health_.slow.load(std::memory_order_relaxed);
  return info;
}

}  // namespace rnbd::rtrs::client
