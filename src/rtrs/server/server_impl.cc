#include "rtrs/server/server_impl.h"

#include <algorithm>
#include <bit>
#include <cerrno>

#include "base/event.h"
#include "base/log.h"

namespace rnbd::rtrs::server {
namespace {

// Paths that have not named their session yet: what strangers can make us keep.
constexpr std::size_t kPathsConnectingMax = 64;
constexpr std::size_t kPathsConnectingPerSourceMax = 16;  // so that one host cannot take them all

const char* what_is_wrong(const ServerOptions& options) {
  if (options.queue_depth < 2 || options.queue_depth > wire::kQueueDepthMax)
    return "queue depth not in 2..65535";
  if (!std::has_single_bit(options.max_chunk_size)) return "chunk size not a power of two";
  if (options.max_chunk_size < wire::kChunkSizeMin) return "chunk size less than 8192";
  if (!wire::geometry_fits(options.queue_depth, options.max_chunk_size)) {
    return "queue depth and chunk size do not fit 28 bits together";
  }
  if (options.header_size < wire::kHeaderSizeMin) return "header size less than 288";
  if (options.header_size > options.max_chunk_size / 2) return "header size more than half a chunk";
  if (options.max_sessions == 0) return "no session allowed";
  if (options.max_paths_per_session == 0 ||
      options.max_paths_per_session > wire::kPathsPerSessionMax) {
    return "paths per session not in 1..128";
  }
  if (options.max_connections_per_path < 2 ||
      options.max_connections_per_path > wire::kConnectionsPerPathMax) {
    return "connections per path not in 2..4096";
  }
  if (std::uint64_t{options.queue_depth} * options.max_chunk_size > options.max_chunk_memory) {
    return "chunk memory too small for one path";
  }
  return nullptr;
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(std::span<fabric::Fabric* const> fabrics, Random&,
                                               RequestHandler& handler,
                                               const ServerOptions& options) {
  if (const char* wrong = what_is_wrong(options)) {
    log_error("server options: {}", wrong);
    return fail_errno(EINVAL);
  }
  RNBD_ASSERT(!fabrics.empty());
  return std::make_unique<ServerImpl>(fabrics, handler, options);
}

ServerImpl::ServerImpl(std::span<fabric::Fabric* const> fabrics, RequestHandler& handler,
                       const ServerOptions& options)
    : fabrics_(fabrics.begin(), fabrics.end()), handler_(handler), options_(options) {
  if (options.identity != wire::Extension{})
    options_.identity.features |= wire::kFeatureFence | wire::kFeatureNotice;
}

std::error_code ServerImpl::listen(const fabric::Address& address) {
  auto listener = fabrics_.front()->listen(address, static_cast<fabric::ListenHandler&>(*this));
  if (!listener) return listener.error();
  listeners_.push_back(std::move(*listener));
  return {};
}

std::vector<fabric::Address> ServerImpl::listen_addresses() const {
  std::vector<fabric::Address> addresses;
  for (const auto& listener : listeners_) addresses.push_back(listener->local_address());
  return addresses;
}

// ---- Admission ----

void ServerImpl::on_connect_request(std::unique_ptr<fabric::IncomingConnection> incoming) {
  auto request = wire::parse_connect_request(incoming->private_data());
  if (!request) return refuse(std::move(incoming), request.error());
  auto path = admit(*request, *incoming);
  if (!path) return refuse(std::move(incoming), path.error());
  (*path)->add_connection(*request, std::move(incoming));
}

Result<Path*> ServerImpl::admit(const wire::ConnectRequest& request,
                                const fabric::IncomingConnection& incoming) {
  if (stopping_ || request.cid_num > options_.max_connections_per_path)
    return fail_errno(ECONNRESET);
  auto session = find_or_create_session(request);
  if (!session) return fail(session.error());
  if ((*session)->fenced(request)) return fail_errno(ECONNRESET);
  if (Path* path = (*session)->find_path(request.sess_uuid)) {
    if (const int error = path->check(request)) return fail_errno(error);
    return path;
  }
  auto path = new_path(**session, request, incoming);
  if (!path && (*session)->paths().empty()) forget(**session);
  return path;
}

Result<SessionImpl*> ServerImpl::find_or_create_session(const wire::ConnectRequest& request) {
  if (const auto found = sessions_.find(request.paths_uuid); found != sessions_.end()) {
    // Accepting would claim that nothing of the old session runs any more.
    if (found->second->ending()) return fail_errno(ECONNRESET);
    return found->second.get();
  }
  if (!request.first_conn) return fail_errno(ENXIO);
  if (sessions_.size() >= options_.max_sessions) return fail_errno(EUSERS);
  const std::uint64_t id = ++last_session_id_;
  const PathLoops loops{.fabrics = fabrics_, .home = id % fabrics_.size()};
  const bool survivor = request.recon_cnt >= 2 && options_.history != nullptr &&
                        !options_.history->known(request.paths_uuid);
  auto session =
      std::make_unique<SessionImpl>(loops, options_, handler_, static_cast<SessionOwner&>(*this),
                                    id, request.paths_uuid, survivor);
  return sessions_.emplace(request.paths_uuid, std::move(session)).first->second.get();
}

Result<Path*> ServerImpl::new_path(SessionImpl& session, const wire::ConnectRequest& request,
                                   const fabric::IncomingConnection& incoming) {
  if (const int error = session.check_new_path(incoming)) return fail_errno(error);
  if (paths_connecting(nullptr) >= kPathsConnectingMax ||
      paths_connecting(&incoming.peer_address()) >= kPathsConnectingPerSourceMax) {
    return fail_errno(EUSERS);
  }
  const std::uint64_t chunk_memory = std::uint64_t{options_.queue_depth} * options_.max_chunk_size;
  if ((paths_total() + 1) * chunk_memory > options_.max_chunk_memory) return fail_errno(ENOMEM);
  return session.add_path(request, incoming);
}

std::size_t ServerImpl::paths_total() const {
  std::size_t total = 0;
  for (const auto& [uuid, session] : sessions_) total += session->paths().size();
  return total;
}

std::size_t ServerImpl::paths_connecting(const fabric::Address* source) const {
  std::size_t connecting = 0;
  for (const auto& [uuid, session] : sessions_) {
    for (const auto& path : session->paths()) {
      const bool counts = path->state() == PathState::connecting &&
                          (source == nullptr || path->client().same_host(*source));
      connecting += counts ? 1U : 0U;
    }
  }
  return connecting;
}

void ServerImpl::refuse(std::unique_ptr<fabric::IncomingConnection> incoming, std::error_code why) {
  log_event(
      {.name = "connection_refused", .level = LogLevel::warning, .error = why, .of_peer = true},
      "connection from {} refused: {}", incoming->peer_address().to_string(), why.message());
  // Faults of form are all ECONNRESET to the client, as with the kernel server.
  const int error = why.category() == std::generic_category() ? why.value() : ECONNRESET;
  fabrics_.front()->reject(std::move(incoming), wire::bytes_of(wire::encode_connect_reject(error)));
}

// ---- Sessions ----

bool ServerImpl::name_taken(const std::string& name, const SessionImpl& by_other_than) const {
  return std::ranges::any_of(sessions_, [&](const auto& entry) {
    return entry.second.get() != &by_other_than && entry.second->name() == name;
  });
}

void ServerImpl::on_session_path_gone(SessionImpl& session) {
  if (session.paths().empty() && !session.ending()) forget(session);
}

void ServerImpl::on_session_released(SessionImpl& session) {
  RNBD_ASSERT(session.ending());
  forget(session);
}

void ServerImpl::forget(SessionImpl& session) {
  const Uuid uuid = session.uuid();
  sessions_.erase(uuid);
  maybe_stopped();
}

void ServerImpl::list_sessions(std::function<void(std::vector<SessionInfo>)> result) {
  std::vector<SessionInfo> infos;
  for (const auto& [uuid, session] : sessions_) infos.push_back(session->info());
  fabrics_.front()->loop().post(
      [result = std::move(result), infos = std::move(infos)] { result(infos); });
}

bool ServerImpl::reset_counters(const std::string& session, const std::string& path,
                                CounterGroup group) {
  bool found = false;
  for (const auto& [uuid, of] : sessions_) {
    if (of->name() != session) continue;
    for (const auto& mine : of->paths()) {
      if (mine->name() != path) continue;
      found = true;
      if (covers(group, CounterGroup::rdma)) mine->reset_counters();
    }
  }
  return found;
}

bool ServerImpl::disconnect(std::uint64_t session, const std::string& path) {
  bool found = false;
  for (const auto& [uuid, of] : sessions_) {
    if (of->id() != session) continue;
    for (const auto& mine : of->paths()) {
      if (!path.empty() && mine->name() != path) continue;
      found = true;
      mine->close(Errc::disconnected, true);
    }
  }
  return found;
}

void ServerImpl::stop(std::function<void()> stopped) {
  RNBD_ASSERT(!stopping_);
  stopping_ = true;
  stopped_ = std::move(stopped);
  listeners_.clear();
  for (const auto& [uuid, session] : sessions_) session->close(Errc::session_closed);
  maybe_stopped();
}

void ServerImpl::maybe_stopped() {
  if (!stopping_ || !sessions_.empty() || !stopped_) return;
  fabrics_.front()->loop().post(std::exchange(stopped_, nullptr));
}

}  // namespace rnbd::rtrs::server
