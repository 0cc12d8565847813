#include "fabric/verbs/connection.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd::fabric::verbs {
namespace {

// Slots beyond the depth, so that items whose bytes were copied are done before they complete.
constexpr std::uint32_t kSlackMax = 128;
// Of our own with type-2 windows: binding and invalidating each, twice, for completions lag behind.
constexpr std::uint32_t kOwnPerWindow = 4;
// The smallest blocks; receives are often a few bytes.
constexpr ArenaOptions kInboxOptions{.granule = 64, .block_size = 64 * 1024};

std::uint32_t slack(std::uint32_t depth, const Options& options) {
  return std::clamp(depth, options.signal_interval, kSlackMax);
}

std::uint32_t own_slots(const VerbsDomain& domain, const ConnectionOptions& depths,
                        const Options& options) {
  if (!domain.type2_windows() || depths.windows == 0) return 0;
  return kOwnPerWindow * depths.windows + 2 * options.signal_interval;
}

int remaining_ms(TimePoint now, TimePoint deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now);
  return static_cast<int>(std::clamp<std::int64_t>(left.count() + 1, 1, 3600 * 1000));
}

}  // namespace

VerbsConnection::VerbsConnection(Core& core, VerbsDomain& domain, const ConnectionOptions& depths,
                                 ConnectionHandler& handler)
    : core_(core),
      domain_(domain),
      device_(domain.shared_device()),
      depths_(depths),
      handler_(handler),
      outgoing_blocks_(domain, IBV_ACCESS_LOCAL_WRITE),
      incoming_blocks_(domain, domain.type2_windows()
                                   ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_MW_BIND
                                   : IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE),
      receive_blocks_(domain, IBV_ACCESS_LOCAL_WRITE),
      outgoing_(outgoing_blocks_, {.block_size = core.options.block_size}),
      inbox_(receive_blocks_, kInboxOptions),
      windows_(incoming_blocks_, {.block_size = core.options.block_size}, depths.windows,
               domain.type2_windows() ? domain.pd() : nullptr),
      sends_(depths.send_depth, depths.send_depth + slack(depths.send_depth, core.options),
             kOwnAtTheEnd + own_slots(domain, depths, core.options), core.options.signal_interval),
      receives_(std::max<std::uint32_t>(depths.receive_depth, 1)),
      chain_(core.options.inline_max),
      timer_(Timer::of<&VerbsConnection::on_timeout>(core.reactor, this)),
      trim_timer_(Timer::of<&VerbsConnection::trim>(core.reactor, this)) {
  core_.add(*this);
}

VerbsConnection::~VerbsConnection() {
  RNBD_ASSERT(core_.reactor.on_this_thread());
  if (id_) core_.events.remove(id_);
  windows_.unbind();
  id_.reset();  // the queue pair before its completion queue
}

// ---- Beginning ----

std::error_code VerbsConnection::create_queues() {
  auto loop = core_.device_loop(device_);
  if (!loop) return loop.error();
  const std::uint32_t send_slots = depths_.send_depth + slack(depths_.send_depth, core_.options) +
                                   kOwnAtTheEnd + own_slots(domain_, depths_, core_.options);
  const std::uint32_t receive_slots = depths_.receive_depth + 1;  // and the marker
  const ibv_device_attr& limits = device_->attributes();
  if (send_slots > static_cast<std::uint32_t>(limits.max_qp_wr) ||
      receive_slots > static_cast<std::uint32_t>(limits.max_qp_wr) ||
      send_slots + receive_slots > static_cast<std::uint32_t>(limits.max_cqe)) {
    log_error("{} takes {} work requests per queue and {} completions, and {} + {} are needed",
              device_->name(), limits.max_qp_wr, limits.max_cqe, send_slots, receive_slots);
    return from_errno(ENOBUFS);
  }
  auto completions = CompletionQueue::create(core_.poller, (*loop)->completions(),
                                             static_cast<int>(send_slots + receive_slots),
                                             &VerbsConnection::drain_queue, this);
  if (!completions) return completions.error();
  completions_ = std::move(*completions);

  ibv_qp_init_attr attributes{};
  attributes.send_cq = attributes.recv_cq = completions_->get();
  attributes.qp_type = IBV_QPT_RC;
  attributes.cap.max_send_wr = send_slots;
  attributes.cap.max_recv_wr = receive_slots;
  attributes.cap.max_send_sge = std::min<std::uint32_t>(
      SendChain::kPieces, static_cast<std::uint32_t>(std::max(limits.max_sge, 1)));
  attributes.cap.max_recv_sge = 1;
  attributes.cap.max_inline_data = static_cast<std::uint32_t>(chain_.inline_max());
  if (rdma_create_qp(id_.get(), domain_.pd(), &attributes) == 0) return {};
  if (errno != EINVAL || chain_.inline_max() == 0) return from_errno(errno);
  chain_.set_inline_max(0);  // a device without inline data
  attributes.cap.max_inline_data = 0;
  return rdma_create_qp(id_.get(), domain_.pd(), &attributes) == 0 ? std::error_code{}
                                                                   : from_errno(errno);
}

std::error_code VerbsConnection::dial(const ConnectRequest& request) {
  if (request.private_data.size() > domain_.capabilities().max_private_data)
    return from_errno(EMSGSIZE);
  const Address& destination = request.address.destination;
  if (destination.empty()) return from_errno(EDESTADDRREQ);
  Address source = request.address.source;
  if (source.empty() && destination.family() != AF_IB) {
    auto chosen = source_for(destination);
    if (!chosen) return chosen.error();
    source = *chosen;
  }
  if (!source.empty() && source.family() != destination.family()) return from_errno(EAFNOSUPPORT);
  auto channel = core_.events.channel();
  if (!channel) return channel.error();
  auto id = CmId::create(*channel, destination.family());
  if (!id) return id.error();
  id_ = std::move(*id);
  if (!source.empty()) {
    if (const auto error = id_.bind(source)) return error;
    // Routing has changed since the domain was made: the next attempt makes a new one.
    if (id_->verbs != device_->context()) return from_errno(ENODEV);
    if (const auto error = create_queues()) return error;
  }
  if (core_.options.ack_timeout != 0) {
    std::uint8_t exponent = core_.options.ack_timeout;
    rdma_set_option(id_.get(), RDMA_OPTION_ID, RDMA_OPTION_ID_ACK_TIMEOUT, &exponent,
                    sizeof exponent);
  }
  private_data_.assign(request.private_data.begin(), request.private_data.end());
  peer_ = destination;
  local_ = source;
  deadline_ = core_.reactor.now() + request.timeout;
  // const_cast: librdmacm knows no const, it only reads the address.
  auto* target = const_cast<sockaddr*>(destination.data());
  if (rdma_resolve_addr(id_.get(), nullptr, target, remaining_ms(core_.reactor.now(), deadline_)) !=
      0) {
    return from_errno(errno);
  }
  core_.events.add(id_, *this);
  timer_.arm_at(deadline_);
  return {};
}

std::error_code VerbsConnection::adopt(CmId id, std::span<const std::byte> private_data) {
  auto channel = core_.events.channel();
  if (!channel) return channel.error();
  id_ = std::move(id);
  if (const auto error = id_.migrate(*channel)) return error;
  if (id_->verbs != device_->context()) return from_errno(EXDEV);
  if (const auto error = create_queues()) return error;
  local_ = local_address_of(id_.get());
  peer_ = peer_address_of(id_.get());
  private_data_.assign(private_data.begin(), private_data.end());
  core_.events.add(id_, *this);
  state_ = State::accepting;
  // Not before the caller has posted its receives: the peer may send as soon as it hears of us.
  core_.reactor.defer(accept_);
  return {};
}

rdma_conn_param VerbsConnection::connect_parameters() const {
  rdma_conn_param parameters{};
  parameters.private_data = private_data_.data();
  parameters.private_data_len = static_cast<std::uint8_t>(private_data_.size());
  parameters.retry_count = core_.options.retry_count;
  parameters.rnr_retry_count = core_.options.rnr_retry;
  return parameters;  // no reads and no atomics: no resources for them
}

void VerbsConnection::send_connect() {
  state_ = State::connecting;
  auto parameters = connect_parameters();
  if (rdma_connect(id_.get(), &parameters) != 0) end(from_errno(errno));
}

void VerbsConnection::send_accept() {
  auto parameters = connect_parameters();
  if (rdma_accept(id_.get(), &parameters) != 0) return end(from_errno(errno));
  state_ = State::accepted;
  connected_ = true;
  tune();
  timer_.arm_after(core_.options.confirm_timeout);
}

// How long a peer waits before it tries a message again for which no receive was posted.
void VerbsConnection::tune() {
  ibv_qp_attr attributes{};
  attributes.min_rnr_timer = core_.options.rnr_timer;
  ibv_modify_qp(id_->qp, &attributes, IBV_QP_MIN_RNR_TIMER);  // else the CM's value stands: longer
}

void VerbsConnection::on_cm_event(CmEvent& event) {
  if (ending()) return;
  switch (event.type) {
    case RDMA_CM_EVENT_ADDR_RESOLVED:
    case RDMA_CM_EVENT_ROUTE_RESOLVED:
      return on_cm_progress(event);
    case RDMA_CM_EVENT_ESTABLISHED:
      return on_established(event);
    case RDMA_CM_EVENT_REJECTED:
      return on_rejected(event);
    case RDMA_CM_EVENT_DISCONNECTED:
    case RDMA_CM_EVENT_TIMEWAIT_EXIT:
      return on_disconnected();
    case RDMA_CM_EVENT_DEVICE_REMOVAL:
      core_.on_device_gone(*device_);
      return end(from_errno(ENODEV));
    case RDMA_CM_EVENT_ADDR_CHANGE:
      return end(from_errno(ENETRESET));
    default:
      return end(event.error());
  }
}

void VerbsConnection::on_cm_progress(CmEvent& event) {
  if (event.type == RDMA_CM_EVENT_ADDR_RESOLVED && state_ == State::resolving) {
    if (id_->verbs != device_->context()) return end(from_errno(ENODEV));
    if (id_->qp == nullptr) {  // only now is the device known
      if (const auto error = create_queues()) return end(error);
    }
    state_ = State::routing;
    const int left = remaining_ms(core_.reactor.now(), deadline_);
    if (rdma_resolve_route(id_.get(), left) != 0) end(from_errno(errno));
  } else if (event.type == RDMA_CM_EVENT_ROUTE_RESOLVED && state_ == State::routing) {
    send_connect();
  }
}

void VerbsConnection::on_established(CmEvent& event) {
  if (state_ == State::accepted) return announce();
  if (state_ != State::connecting) return;
  timer_.disarm();
  connected_ = true;
  tune();
  local_ = local_address_of(id_.get());
  peer_ = peer_address_of(id_.get());
  state_ = State::open;
  handler_.on_connected(event.private_data());
}

void VerbsConnection::announce() {
  timer_.disarm();
  state_ = State::open;
  handler_.on_connected({});
}

// With a reason of its own a peer sends data, padded with zeros to a fixed length; nothing but
// zeros is what the connection manager sends for a request that was dropped.
void VerbsConnection::on_rejected(CmEvent& event) {
  constexpr int kConsumerDefined = 28;  // IBTA; iWARP reports a negative errno
  const auto data = event.private_data();
  const bool has_data = std::ranges::any_of(data, [](std::byte b) { return b != std::byte{0}; });
  const bool by_user = event.status == kConsumerDefined || event.status == -ECONNREFUSED;
  if (state_ == State::connecting && by_user && has_data) {
    handler_.on_rejected(data);
    if (!ending()) end(Errc::connect_rejected);
    return;
  }
  end(event.error());
}

void VerbsConnection::on_disconnected() {
  // What came before the peer's goodbye is delivered first.
  while (!ending() && connected_ && drain()) {
  }
  if (ending()) return;
  if (state_ != State::open || sends_.idle()) return end(Errc::peer_closed);
  // Why the peer left may still be under way, as the failure of what we sent.
  timer_.arm_after(core_.options.last_words);
}

void VerbsConnection::on_async_event(const AsyncEvent& event) {
  if (ending()) return;
  const bool mine = id_ && id_->qp != nullptr && id_->qp->qp_num == event.queue_pair;
  switch (event.type) {
    case IBV_EVENT_COMM_EST:
      // The first message came before the peer's confirmation, which may be lost.
      if (mine && state_ == State::accepted) rdma_notify(id_.get(), IBV_EVENT_COMM_EST);
      return;
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_QP_FATAL:
      if (!mine) return;
      drain();  // it may know the cause
      if (!ending())
        end(event.type == IBV_EVENT_QP_FATAL ? from_errno(EIO)
                                             : make_error_code(Errc::remote_access));
      return;
    case IBV_EVENT_CQ_ERR:
      if (completions_ != nullptr && completions_->get() == event.completion_queue)
        end(from_errno(EIO));
      return;
    case IBV_EVENT_PORT_ERR:
      if (event.port == domain_.port()) end(from_errno(ENETDOWN));
      return;
    case IBV_EVENT_DEVICE_FATAL:
      return end(from_errno(ENODEV));
    default:
      return;
  }
}

// ---- The end ----

void VerbsConnection::close(std::error_code why, bool graceful) {
  if (ending()) return;
  if (!graceful || state_ != State::open) return end(why);
  state_ = State::draining;
  why_ = why;
  timer_.arm_after(core_.options.drain_timeout);
  core_.reactor.defer(flush_);
}

void VerbsConnection::on_timeout() {
  switch (state_) {
    case State::resolving:
    case State::routing:
      return end(from_errno(ETIMEDOUT));
    case State::connecting:
    case State::accepted:
      return end(Errc::handshake_timeout);
    case State::flushing:
      log_warning("verbs: the {} queue to {} does not drain; the queue pair is destroyed",
                  marker_sent_ ? "receive" : "send", peer_.to_string_with_port());
      return finish();
    default:  // open: the peer has left; draining: the time is up
      return end(why_.value_or(make_error_code(Errc::peer_closed)));
  }
}

void VerbsConnection::end(std::error_code why) {
  if (ending()) return;
  state_ = State::flushing;
  if (!why_) why_ = why;
  timer_.disarm();
  accept_.unlink();
  flush_.unlink();
  if (connected_) {
    flush_queues();
  } else {
    core_.reactor.defer(finish_);
  }
}

void VerbsConnection::flush_queues() {
  // The marker of the receive queue first: posting to a queue pair in error wakes nobody up in a
  // software device. If a message takes it, so much the better.
  ibv_recv_wr receive{};
  receive.wr_id = kMarkerReceive;
  ibv_recv_wr* bad = nullptr;
  marker_received_ = ibv_post_recv(id_->qp, &receive, &bad) != 0;
  ibv_qp_attr attributes{};
  attributes.qp_state = IBV_QPS_ERR;
  ibv_modify_qp(id_->qp, &attributes, IBV_QP_STATE);
  ibv_send_wr send{};
  send.opcode = IBV_WR_RDMA_WRITE;
  posted_end_ = sends_.head() - chain_.size();
  chain_.take();  // what did not leave yet stays here
  marker_sent_ = !post_own(send);
  marker_ = send.wr_id;
  rdma_disconnect(id_.get());  // tells the peer, or answers it
  if (marker_sent_ && marker_received_) return core_.reactor.defer(finish_);
  timer_.arm_after(core_.options.flush_timeout);
  completions_->heat();
}

void VerbsConnection::finish() {
  state_ = State::closed;
  timer_.disarm();
  trim_timer_.disarm();
  finish_.unlink();
  core_.events.remove(id_);
  windows_.unbind();  // a queue pair with bound windows cannot be destroyed
  if (id_->qp != nullptr) rdma_destroy_qp(id_.get());
  while (completions_ != nullptr && drain()) {  // what it had completed before
  }
  completions_.reset();
  id_.reset();
  windows_.clear();
  outgoing_.clear();
  inbox_.clear();
  core_.closed(*this);
  hand_back();
}

void VerbsConnection::hand_back() {
  while (const auto done = sends_.pop_any())
    handler_.on_done(done->cookie, done->completed ? std::error_code{} : Errc::flushed);
  while (!receives_.empty()) {
    ReceiveEvent event{};
    event.kind = ReceiveEvent::Kind::flushed;
    event.cookie = receives_.pop().cookie;
    handler_.on_receive(event);
  }
  handler_.on_closed(*why_);  // may destroy this
}

}  // namespace rnbd::fabric::verbs
