#include "rtrs/client/session_impl.h"

#include <algorithm>

#include "base/log.h"

namespace rnbd::rtrs::client {
namespace {

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
      uuid_(options_.resume ? options_.resume->uuid : random.uuid()) {
  const auto add_lane = [this](fabric::Fabric& fabric) {
    lanes_.push_back(std::make_unique<LaneImpl>(fabric, static_cast<std::uint16_t>(lanes_.size()),
                                                options_.policy));
  };
  add_lane(*fabrics[home]);
  for (fabric::Fabric* fabric : fabrics) add_lane(*fabric);
  for (std::uint32_t i = 0; i < options_.poll_connections; ++i)
    add_lane(*fabrics[i % fabrics.size()]);

  for (const auto& lane : lanes_) lane->set_lender(*lanes_[1]);  // the first to get a permit
  std::vector<LaneImpl*> lanes;
  for (const auto& lane : lanes_) lanes.push_back(lane.get());
  for (std::size_t i = 0; i < options_.paths.size(); ++i) {
    paths_.push_back(std::make_unique<Path>(lanes, random, static_cast<PathHandler&>(*this),
                                            path_options(i, random)));
    if (find_identity(options_, options_.paths[i]) != nullptr)
      unproven_.push_back(paths_.back().get());
  }
}

PathOptions SessionImpl::path_options(std::size_t index, Random& random) const {
  const fabric::PathAddress& address = options_.paths[index];
  const PathIdentity* old = find_identity(options_, address);
  return {.session_name = options_.name,
          .address = address,
          .paths_uuid = uuid_,
          .sess_uuid = old != nullptr ? old->uuid : random.uuid(),
          .first_conn = old != nullptr || (index == 0 && !options_.resume),
          .reconnects = old != nullptr ? old->reconnects : std::uint16_t{0},
          .heartbeat = options_.heartbeat,
          .connect_timeout = options_.connect_timeout,
          .reconnect_delay = options_.reconnect_delay,
          .reconnect_delay_max = options_.reconnect_delay_max,
          .max_reconnect_attempts = options_.max_reconnect_attempts};
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
  for (const auto& path : paths_) infos.push_back(path->info());
  return infos;
}

void SessionImpl::open() {
  RNBD_ASSERT(state_ == State::idle);
  state_ = State::opening;
  opened_at_ = home_.now();
  home_.defer(open_task_);
}

void SessionImpl::open_next_path() {
  if (state_ != State::opening) return;
  if (!options_.resume) return paths_[paths_opened_++]->connect();
  for (const auto& path : paths_) path->connect();
}

std::error_code SessionImpl::agree(const wire::ConnectAccept& accept) {
  // One permit for administration, one for everything else.
  if (accept.queue_depth < 2) return Errc::bad_geometry;
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

void SessionImpl::on_path_connected(Path& path) {
  ++paths_up_;
  if (state_ == State::opening && options_.resume) return on_resumed(path);
  if (state_ == State::opening) {
    if (paths_opened_ < paths_.size()) return home_.defer(open_task_);
    state_ = State::open;
    return handler_.on_session_connected();
  }
  if (state_ == State::open && paths_up_ == 1) handler_.on_session_connected();
}

void SessionImpl::on_resumed(Path& path) {
  std::erase(unproven_, &path);
  if (!unproven_.empty()) return;
  state_ = State::open;
  handler_.on_session_connected();
}

void SessionImpl::on_path_lost(Path&, std::error_code why) {
  --paths_up_;
  if (state_ == State::opening && !options_.resume) return shut_down(why);
  if (state_ == State::open && paths_up_ == 0) handler_.on_session_disconnected(why);
}

void SessionImpl::on_path_failed(Path&, std::error_code why) {
  if (state_ == State::opening && !tries_again(why)) shut_down(why);
}

bool SessionImpl::tries_again(std::error_code why) const {
  if (options_.resume) return true;
  return why == Errc::session_refused && home_.now() - opened_at_ < options_.name_patience;
}

void SessionImpl::on_path_closed(Path&, std::error_code why) {
  ++paths_closed_;
  const bool all_given_up = paths_closed_ == paths_.size() && state_ == State::open;
  if (all_given_up || state_ == State::opening) return shut_down(why);
  maybe_closed();
}

void SessionImpl::close() { shut_down(Errc::session_closed); }

void SessionImpl::shut_down(std::error_code why) {
  if (state_ == State::closing || state_ == State::closed) return;
  state_ = State::closing;
  why_closed_ = why;
  for (const auto& lane : lanes_) {
    lane->loop().post([this, lane = lane.get()] {
      lane->close();
      home_.post([this] {
        ++lanes_closed_;
        maybe_closed();
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

void SessionImpl::report_changed() { handler_.on_path_changed(); }

}  // namespace rnbd::rtrs::client
