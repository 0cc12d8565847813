#include "rtrs/server/path.h"

#include <algorithm>
#include <cerrno>

#include "base/event.h"

namespace rnbd::rtrs::server {

Path::Path(const PathLoops& loops, const ServerOptions& options, RequestHandler& requests,
           Session& session, SessionShared& of_session, PathHandler& handler,
           const wire::ConnectRequest& request, const fabric::IncomingConnection& first)
    : loops_(loops),
      options_(options),
      handler_(handler),
      uuid_(request.sess_uuid),
      cid_num_(request.cid_num),
      recon_cnt_(request.recon_cnt),
      client_(first.peer_address()),
      server_(first.local_address()),
      name_(fabric::PathAddress{client_, server_}.to_string()),
      shared_(options, requests, session, of_session, request.cid_num),
      channels_(request.cid_num),
      handshake_timer_(Timer::of<&Path::on_handshake_timeout>(loops.control(), this)) {
  shared_.path_name = name_;
  handshake_timer_.arm_after(options.handshake_timeout);
}

Result<std::unique_ptr<Path>> Path::create(const PathLoops& loops, const ServerOptions& options,
                                           RequestHandler& requests, Session& session,
                                           SessionShared& of_session, PathHandler& handler,
                                           const wire::ConnectRequest& request,
                                           const fabric::IncomingConnection& first) {
  auto domain = loops.fabrics[0]->create_domain(first);
  if (!domain) return fail(domain.error());
  auto chunks = Chunks::create(**domain, options.queue_depth, options.max_chunk_size);
  if (!chunks) return fail(chunks.error());
  std::unique_ptr<Path> path(
      new Path(loops, options, requests, session, of_session, handler, request, first));
  path->shared_.domain = std::move(*domain);
  path->shared_.chunks = std::move(*chunks);
  if (path->shared_.domain->capabilities().keyed_gates)
    path->shared_.chunk_gates = std::make_unique<ChunkGates>(options.queue_depth);
  return path;
}

void Path::transition(PathState next) {
  RNBD_ASSERT(path_move_allowed(state_, next));
  state_ = next;
}

int Path::check(const wire::ConnectRequest& request) const {
  const bool fits = state_ == PathState::connecting && request.cid_num == cid_num_ &&
                    request.recon_cnt == recon_cnt_ && channels_[request.cid] == nullptr;
  return fits ? 0 : ECONNRESET;
}

bool Path::same_addresses(const fabric::IncomingConnection& incoming) const {
  return client_.same_host(incoming.peer_address()) && server_.same_host(incoming.local_address());
}

void Path::add_connection(const wire::ConnectRequest& request,
                          std::unique_ptr<fabric::IncomingConnection> incoming) {
  auto& channel = channels_[request.cid];
  channel = std::make_unique<Channel>(loops_.of(request.cid), loops_.index_of(request.cid),
                                      request.cid, shared_, loops_.control(),
                                      static_cast<ChannelHandler&>(*this), std::move(incoming));
  shared_.channels[request.cid] = channel.get();
  ++opened_;
  command(*channel, [](Channel& self) { self.accept(); });
}

void Path::on_info_request(const std::vector<std::byte>& bytes) {
  if (state_ != PathState::connecting) return;
  auto name = wire::parse_info_request(bytes);
  if (!name) return close(name.error(), false);
  if (opened_ != channels_.size()) return close(Errc::protocol_violation, false);
  if (auto error = handler_.claim_name(*this, *name)) return close(error, false);
  handshake_timer_.disarm();
  shared_.requests = std::make_unique<RequestPool>(options_.queue_depth, options_.header_size);
  transition(PathState::connected);
  log_event({.name = "path_connected", .session = *name, .path = name_, .of_peer = true},
            "path {} connected: {} connections", name_, cid_num_);
  // First the handler and then the gate, the client's answer last: no request comes before its
  // session.
  handler_.on_path_connected(*this);
  command(*channels_.front(), [this, response = info_response()](Channel& channel) {
    shared_.gate.try_open();
    channel.send_info_response(response);
  });
}

std::vector<std::byte> Path::info_response() const {
  const fabric::RemoteSpan span = shared_.chunks->remote();
  const wire::Descriptor region{span.address, span.key,
                                options_.queue_depth * options_.max_chunk_size};
  return wire::encode_info_response({&region, 1});
}

void Path::close(std::error_code why, bool graceful) {
  if (state_ == PathState::closing || state_ == PathState::closed) return;
  shared_.gate.shut_now();
  log_event({.name = "path_closed",
             .session = shared_.session.name(),
             .path = name_,
             .error = why,
             .of_peer = true},
            "path {} closed: {}", name_, why.message());
  transition(PathState::closing);
  handshake_timer_.disarm();
  handler_.on_path_closing(*this);
  for (const auto& channel : channels_) {
    if (channel) command(*channel, [why, graceful](Channel& self) { self.close(why, graceful); });
  }
}

void Path::send_notice() {
  if (state_ != PathState::connected) return;
  command(*channels_.front(), [](Channel& channel) { channel.send_notice(); });
}

void Path::on_channel_closed(std::uint16_t, std::error_code why) { close(why, false); }

void Path::on_channel_finished(std::uint16_t) {
  if (++finished_ < opened_) return;
  RNBD_ASSERT(state_ == PathState::closing);
  channels_.clear();
  shared_.requests.reset();
  shared_.chunks.reset();
  shared_.domain.reset();
  transition(PathState::closed);
  loops_.control().defer(gone_task_);
}

Path::Sums Path::sums() const {
  Sums sums;
  for (std::uint16_t cid = 0; cid < cid_num_; ++cid) {
    sums.requests.add(shared_.counters[cid]);
    sums.server += shared_.counters[cid].server.counts();
    sums.backend += shared_.counters[cid].backend.counts();
  }
  return sums;
}

void Path::reset_counters() { base_ = sums(); }

PathInfo Path::info() const {
  PathInfo info;
  info.name = name_;
  info.client = client_;
  info.server_address = server_;
  info.state = path_state_name(state_);
  if (shared_.domain) {  // none any more when it is closed and not gone yet
    info.fabric = shared_.domain->capabilities().name;
    info.device = shared_.domain->device();
    info.digest = shared_.digest;
  }
  info.connections = static_cast<std::uint32_t>(opened_);
  Sums now = sums();
  now.requests -= base_.requests;
  now.server -= base_.server;
  now.backend -= base_.backend;
  info.reads = now.requests.reads;
  info.read_bytes = now.requests.read_bytes;
  info.writes = now.requests.writes;
  info.write_bytes = now.requests.write_bytes;
  info.errors = now.requests.errors;
  info.server = now.server;
  info.backend = now.backend;
  for (std::uint16_t cid = 0; cid < cid_num_; ++cid)
    info.inflight += shared_.counters[cid].inflight.get();
  return info;
}

}  // namespace rnbd::rtrs::server
