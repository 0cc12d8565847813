#include "rtrs/client/session_impl.h"

#include <algorithm>
#include <cerrno>

#include "base/event.h"
#include "base/mutation.h"

namespace rnbd::rtrs::client {
namespace {

// Attempts of a predecessor that may not have reached its disk. A fence covers them too.
constexpr std::uint16_t kReconnectsUnsaved = 1000;

bool same_end(const fabric::Address& one, const fabric::Address& other) {
  return one.to_string_with_port() == other.to_string_with_port() &&
         one.transport() == other.transport();
}
bool same_path(const fabric::PathAddress& one, const fabric::PathAddress& other) {
  return same_end(one.source, other.source) && same_end(one.destination, other.destination);
}

const PathIdentity* find_identity(const SessionOptions& options,
                                  const fabric::PathAddress& address) {
  if (!options.resume) return nullptr;
  const auto& paths = options.resume->paths;
  const auto found = std::ranges::find_if(
      paths, [&](const PathIdentity& path) { return same_path(path.address, address); });
  return found == paths.end() ? nullptr : &*found;
}

// A path of the predecessor that is not resumed could still have a request under way.
bool resumable(const SessionOptions& options) {
  if (!options.resume) return true;
  return !options.resume->paths.empty() &&
         std::ranges::all_of(options.resume->paths, [&](const PathIdentity& path) {
           return std::ranges::count_if(options.paths, [&](const fabric::PathAddress& address) {
                    return same_path(path.address, address);
                  }) == 1;
         });
}

std::vector<std::unique_ptr<LaneImpl>> make_lanes(std::span<fabric::Fabric* const> fabrics,
                                                  std::size_t home, const SessionOptions& options) {
  std::vector<std::unique_ptr<LaneImpl>> lanes;
  const auto add = [&](fabric::Fabric& fabric) {
    lanes.push_back(std::make_unique<LaneImpl>(fabric, static_cast<std::uint16_t>(lanes.size()),
                                               options.policy, options.failover));
  };
  add(*fabrics[home]);
  for (fabric::Fabric* fabric : fabrics) add(*fabric);
  for (std::uint32_t i = 0; i < options.poll_connections; ++i) add(*fabrics[i % fabrics.size()]);
  return lanes;
}

}  // namespace

bool PathIdentity::operator==(const PathIdentity& other) const {
  return same_path(address, other.address) && uuid == other.uuid && reconnects == other.reconnects;
}

Result<std::unique_ptr<Session>> Session::create(std::span<fabric::Fabric* const> fabrics,
                                                 std::size_t home, Random& random,
                                                 SessionHandler& handler, SessionOptions options) {
  const std::size_t connections = 1 + fabrics.size() + options.poll_connections;
  if (!wire::valid_session_name(options.name) || options.paths.empty() ||
      options.paths.size() > wire::kPathsPerSessionMax || fabrics.empty() ||
      home >= fabrics.size() || connections > wire::kConnectionsPerPathMax || !resumable(options)) {
    return fail_errno(EINVAL);
  }
  return std::make_unique<SessionImpl>(fabrics, home, random, handler, std::move(options));
}

SessionImpl::SessionImpl(std::span<fabric::Fabric* const> fabrics, std::size_t home, Random& random,
                         SessionHandler& handler, SessionOptions options)
    : options_(std::move(options)),
      io_lanes_(fabrics.size()),
      home_(fabrics[home]->loop()),
      handler_(handler),
      uuid_(options_.resume ? options_.resume->uuid : random.uuid()),
      lanes_(make_lanes(fabrics, home, options_)),
      random_(random),
      fencing_(home_, *lanes_.front(),
               options_.server_patience + options_.backend_patience + options_.packet_lifetime,
               static_cast<FencingHandler&>(*this)),
      max_reconnect_attempts_(options_.max_reconnect_attempts) {
  for (const auto& lane : lanes_) {
    lane->set_lender(*lanes_[1]);  // the first to get a permit
    lane_pointers_.push_back(lane.get());
  }
  for (const auto& address : options_.paths) make_path(address, paths_.empty());
}

Path& SessionImpl::make_path(const fabric::PathAddress& address, bool first) {
  paths_.push_back(std::make_unique<Path>(lane_pointers_, random_, static_cast<PathHandler&>(*this),
                                          path_options(address, first)));
  return *paths_.back();
}

PathOptions SessionImpl::path_options(const fabric::PathAddress& address, bool first) {
  // A path that is added later is a new one, whatever the predecessor had there.
  const PathIdentity* old = state_ == State::idle ? find_identity(options_, address) : nullptr;
  const bool resuming = state_ == State::idle && options_.resume;
  return {.session_name = options_.name,
          .address = address,
          .paths_uuid = uuid_,
          .sess_uuid = old != nullptr ? old->uuid : random_.uuid(),
          .first_conn = old != nullptr || (first && !resuming),
          .reconnects =
              static_cast<std::uint16_t>(old != nullptr ? old->reconnects + kReconnectsUnsaved : 0),
          .heartbeat = options_.heartbeat,
          .fast_heartbeat = options_.fast_heartbeat,
          .connect_timeout = options_.connect_timeout,
          .reconnect_delay = options_.reconnect_delay,
          .reconnect_delay_max = options_.reconnect_delay_max,
          .max_reconnect_attempts = max_reconnect_attempts_};
}

SessionIdentity SessionImpl::identity() const {
  SessionIdentity identity{.uuid = uuid_, .paths = {}};
  for (const auto& path : paths_) identity.paths.push_back(path->identity());
  return identity;
}

Lane& SessionImpl::lane(std::size_t index) {
  RNBD_ASSERT(index < io_lanes_);
  return *lanes_[index + 1];
}

std::vector<PathInfo> SessionImpl::paths() const {
  std::vector<PathInfo> infos;
  for (const auto& path : paths_) {
    infos.push_back(path->info());
    infos.back().fenced = !fencing_.pending(path->uuid());
  }
  return infos;
}

// ---- Opening ----

void SessionImpl::open() {
  RNBD_ASSERT(state_ == State::idle);
  state_ = State::opening;
  opened_at_ = home_.now();
  if (options_.resume && !broken(Rule::r16)) {
    for (const auto& path : paths_) {
      if (find_identity(options_, path->address()) != nullptr)
        fencing_.add(fencing_.next(), path->uuid(), path->identity().reconnects);
    }
  }
  home_.defer(open_task_);
}

void SessionImpl::open_next_path() {
  if (state_ != State::opening) return;
  if (!options_.resume) return paths_[paths_opened_++]->connect();
  for (const auto& path : paths_) path->connect();
}

std::error_code SessionImpl::agree(const wire::ConnectAccept& accept,
                                   const std::optional<wire::Extension>& extension) {
  // One permit for administration, one for everything else.
  if (accept.queue_depth < 2) return Errc::bad_geometry;
  if (paths_up_ > 0 && extension != server_) return Errc::other_instance;
  server_ = extension;
  if (limits_.queue_depth == 0) {
    limits_ = {accept.queue_depth, accept.max_io_size, accept.max_hdr_size};
    return {};
  }
  if (accept.queue_depth != limits_.queue_depth) return Errc::queue_depth_changed;
  limits_.max_io_size = std::min(limits_.max_io_size, accept.max_io_size);
  limits_.max_hdr_size = std::min(limits_.max_hdr_size, accept.max_hdr_size);
  return {};
}

// The service lane has a few, the IO lanes share the rest evenly, poll connections have none.
PermitRange SessionImpl::permits_of(std::uint16_t cid) const {
  const std::uint32_t depth = limits_.queue_depth;
  const std::uint32_t service = std::clamp(depth / 4, 1U, kServicePermitsMax);
  if (cid == 0) return {0, service};
  const auto lanes = static_cast<std::uint32_t>(io_lanes_);
  const std::uint32_t index = cid - 1U;
  if (index >= lanes) return {0, 0};
  const std::uint32_t share = (depth - service) / lanes;
  const std::uint32_t more = (depth - service) % lanes;  // the first lanes get one more
  return {service + index * share + std::min(index, more), share + (index < more ? 1 : 0)};
}

// ---- Paths come and go ----

void SessionImpl::on_path_connected(Path& path) {
  // Two paths may have been greeted by two servers before either was up.
  if (paths_up_ > 0 && path.extension() != server_) {
    ++paths_up_;
    return path.fail(Errc::other_instance);
  }
  server_ = path.extension();
  ++paths_up_;
  fencing_.proven(path.uuid());
  for (PathCall& call : take_calls(path)) call.done({});
  if (state_ == State::opening && !options_.resume) {
    if (paths_opened_ < paths_.size()) return home_.defer(open_task_);
    state_ = State::open;
  }
  home_.defer(look_task_);
}

void SessionImpl::on_path_unfenced(Path& path, LossId loss) {
  fencing_.add(loss, path.uuid(), path.identity().reconnects);
  new_loss_ = true;
  home_.defer(look_task_);
}

void SessionImpl::on_path_lost(Path&, std::error_code why) {
  --paths_up_;
  if (state_ == State::opening && !options_.resume) return shut_down(why);
  if (paths_up_ == 0 && std::exchange(connected_, false)) {
    unfenced_told_ = false;
    handler_.on_session_disconnected(why);
  }
  // A notice may have been lost with it.
  if (paths_up_ > 0 && server_ && (server_->features & wire::kFeatureNotice) != 0)
    home_.defer(notice_task_);
  home_.defer(look_task_);
}

bool SessionImpl::server_fences() const {
  return server_ && (server_->features & wire::kFeatureFence) != 0;
}

// What the user must hear of paths and fences, after everything that changed in one round.
void SessionImpl::look() {
  finish_removals();
  const bool resuming = state_ == State::opening && options_.resume.has_value();
  if ((state_ != State::open && !resuming) || paths_up_ == 0) return;
  if (!fencing_.empty() && server_fences()) fencing_.ask();
  // Only where nobody can be asked: the user's own fence has had its time, or there is none yet.
  if (connected_ || resuming || server_fences()) fencing_.expire(!server_fences());
  if (!connected_) {
    const bool user_fences = !server_fences() && !resuming;
    if (!fencing_.empty() && !user_fences) return;
    // What a server of ours answers to OPEN depends on whether it knows us.
    const bool known = std::ranges::any_of(paths_, [](const auto& path) {
      return path->state() == PathState::connected && path->greeted();
    });
    return known ? report_connected() : void();
  }
  if (std::exchange(new_loss_, false) && !fencing_.empty() && !server_fences()) {
    unfenced_told_ = true;
    handler_.on_session_unfenced();
    // What waits for a permit would wait for the very fence.
    for (std::size_t cid = 1; cid < lane_pointers_.size(); ++cid) {
      LaneImpl* lane = lane_pointers_[cid];
      lane->loop().post([lane] { lane->give_back_waiting(); });
    }
    return;
  }
  if (fencing_.empty() && std::exchange(unfenced_told_, false)) handler_.on_session_fenced();
}

void SessionImpl::report_connected() {
  state_ = State::open;
  connected_ = true;
  new_loss_ = false;
  unfenced_told_ = !fencing_.empty();
  if (unfenced_told_) home_.defer(look_task_);  // it may be overdue
  handler_.on_session_connected();
}

void SessionImpl::declare_fenced() {
  unfenced_told_ = false;  // by whom we need not tell
  fencing_.proven_all();
}

void SessionImpl::on_fenced(LossId loss, const Uuid& path, const char* how) {
  for (const auto& known : paths_) {
    if (known->uuid() == path)
      log_event({.name = "path_fenced", .session = options_.name, .path = known->name()},
                "path {} fenced: {}", known->name(), how);
  }
  for (LaneImpl* lane : lane_pointers_) {
    lane->loop().post([lane, loss] { lane->fenced(loss); });
  }
  home_.defer(look_task_);
}

// A path whose heartbeats take far longer than the best one's serves only when there is no other.
void SessionImpl::on_path_latency() {
  constexpr Duration kNeverSlow = std::chrono::milliseconds(20);
  constexpr int kFactor = 8;
  Duration best = Duration::max();
  for (const auto& path : paths_) {
    if (path->state() == PathState::connected && path->latency() > Duration::zero())
      best = std::min(best, path->latency());
  }
  for (const auto& path : paths_) {
    path->set_slow(path->latency() > kNeverSlow && path->latency() / kFactor > best);
  }
}

void SessionImpl::on_path_failed(Path& path, std::error_code why) {
  for (PathCall& call : take_calls(path)) {
    if (call.kind == PathCall::Kind::add) {
      path_down(index_of(path), PathCall::Kind::remove,
                [done = std::move(call.done), why](std::error_code) { done(why); });
    } else {
      calls_.push_back(std::move(call));
    }
  }
  if (state_ == State::opening && !tries_again(why)) shut_down(why);
}

bool SessionImpl::tries_again(std::error_code why) const {
  if (options_.resume) return true;
  return why == Errc::session_refused && home_.now() - opened_at_ < options_.name_patience;
}

void SessionImpl::on_path_closed(Path& path, std::error_code why) {
  if (state_ == State::closing) {
    ++paths_closed_;
    return maybe_closed();
  }
  if (state_ == State::opening && !options_.resume) return shut_down(why);
  auto calls = take_calls(path);
  for (PathCall& call : calls) {
    if (call.kind == PathCall::Kind::remove) calls_.push_back(std::move(call));
  }
  for (PathCall& call : calls) {
    if (call.done && call.kind != PathCall::Kind::remove) call.done({});
  }
  finish_removals();
  const bool all_given_up = !paths_.empty() && std::ranges::all_of(paths_, [](const auto& one) {
    return one->state() == PathState::closed && one->last_error() != Errc::disconnected;
  });
  if (all_given_up) shut_down(why);
}

// ---- Paths at the administrator's word ----

std::vector<SessionImpl::PathCall> SessionImpl::take_calls(const Path& path) {
  std::vector<PathCall> taken;
  const auto others = std::stable_partition(
      calls_.begin(), calls_.end(), [&](const PathCall& call) { return call.path != &path; });
  std::move(others, calls_.end(), std::back_inserter(taken));
  calls_.erase(others, calls_.end());
  return taken;
}

std::size_t SessionImpl::index_of(const Path& path) const {
  return static_cast<std::size_t>(
      std::ranges::find_if(paths_, [&](const auto& one) { return one.get() == &path; }) -
      paths_.begin());
}

// It may be telling us of its own end.
void SessionImpl::drop_path(Path& path) {
  const auto place = paths_.begin() + static_cast<std::ptrdiff_t>(index_of(path));
  home_.post([owned = std::shared_ptr<Path>(std::move(*place))] {});
  paths_.erase(place);
  home_.defer(changed_task_);
}

// A path that is not fenced yet stays, so that a successor of ours would know of it.
void SessionImpl::finish_removals() {
  const auto ready = [this](const PathCall& call) {
    return call.kind == PathCall::Kind::remove && call.path->state() == PathState::closed &&
           !fencing_.pending(call.path->uuid());
  };
  for (auto call = std::ranges::find_if(calls_, ready); call != calls_.end();
       call = std::ranges::find_if(calls_, ready)) {
    const PathCall now = std::move(*call);
    calls_.erase(call);
    drop_path(*now.path);
    now.done({});
  }
}

void SessionImpl::add_path(const fabric::PathAddress& address, Done done) {
  if (state_ != State::open) return done(from_errno(ENOTCONN));
  if (paths_.size() >= wire::kPathsPerSessionMax) return done(from_errno(EMFILE));
  const bool known = std::ranges::any_of(
      paths_, [&](const auto& path) { return same_path(path->address(), address); });
  if (known) return done(from_errno(EEXIST));
  // With no path up the server may have lost the session, as with a path that is reconnected.
  Path& path = make_path(address, paths_up_ == 0);
  calls_.push_back({.path = &path, .kind = PathCall::Kind::add, .done = std::move(done)});
  path.connect();
}

void SessionImpl::path_down(std::size_t index, PathCall::Kind kind, Done done) {
  if (index >= paths_.size()) return done(from_errno(ENOENT));
  if (state_ != State::open) return done(from_errno(ENOTCONN));
  Path& path = *paths_[index];
  const bool being_removed = std::ranges::any_of(calls_, [&](const PathCall& call) {
    return call.path == &path && call.kind == PathCall::Kind::remove;
  });
  if (being_removed) return done(from_errno(EBUSY));
  if (path.state() == PathState::closed) {
    if (kind != PathCall::Kind::remove) return done({});
    calls_.push_back({.path = &path, .kind = kind, .done = std::move(done)});
    return finish_removals();
  }
  for (PathCall& call : take_calls(path)) {  // whoever adds it waits in vain
    call.kind == PathCall::Kind::add ? call.done(from_errno(ECANCELED))
                                     : calls_.push_back(std::move(call));
  }
  calls_.push_back({.path = &path, .kind = kind, .done = std::move(done)});
  path.disconnect();
}

void SessionImpl::disconnect_path(std::size_t index, Done done) {
  path_down(index, PathCall::Kind::disconnect, std::move(done));
}

void SessionImpl::remove_path(std::size_t index, Done done) {
  path_down(index, PathCall::Kind::remove, std::move(done));
}

void SessionImpl::reconnect_path(std::size_t index, Done done) {
  if (index >= paths_.size()) return done(from_errno(ENOENT));
  if (state_ != State::open) return done(from_errno(ENOTCONN));
  paths_[index]->reconnect(std::move(done));
}

void SessionImpl::link_changed(const fabric::Address& local, bool up) {
  if (state_ == State::closing || state_ == State::closed) return;
  for (const auto& path : paths_) {
    if (up) {
      path->try_now();
    } else if (path->state() == PathState::connected && path->local().same_host(local)) {
      path->fail(from_errno(ENETDOWN));
    }
  }
}

void SessionImpl::set_policy(PathPolicy policy) {
  if (state_ == State::closing || state_ == State::closed) return;
  for (LaneImpl* lane : lane_pointers_) {
    lane->loop().post([lane, policy] { lane->set_policy(policy); });
  }
}

void SessionImpl::set_max_reconnect_attempts(int attempts) {
  max_reconnect_attempts_ = attempts;
  for (const auto& path : paths_) path->set_max_reconnect_attempts(attempts);
}

// ---- The end ----

void SessionImpl::close() { shut_down(Errc::session_closed); }

void SessionImpl::shut_down(std::error_code why) {
  if (state_ == State::closing || state_ == State::closed) return;
  state_ = State::closing;
  why_closed_ = why;
  fencing_.stop();
  for (PathCall& call : std::exchange(calls_, {})) call.done(Errc::session_closed);
  for (const auto& lane : lanes_) {
    lane->loop().post([this, lane = lane.get()] {
      lane->close([this] {
        home_.post([this] {
          ++lanes_closed_;
          maybe_closed();
        });
      });
    });
  }
  for (const auto& path : paths_) path->close(why);
}

void SessionImpl::maybe_closed() {
  if (state_ != State::closing || lanes_closed_ < lanes_.size() || paths_closed_ < paths_.size())
    return;
  state_ = State::closed;
  home_.defer(closed_task_);
}

void SessionImpl::report_closed() { handler_.on_session_closed(why_closed_); }

void SessionImpl::report_notice() {
  if (state_ == State::open && connected_) handler_.on_session_notice();
}

void SessionImpl::report_changed() { handler_.on_path_changed(); }

}  // namespace rnbd::rtrs::client
