#include "rtrs/client/channel.h"

#include <algorithm>

namespace rnbd::rtrs::client {
namespace {

// Cookies of posted work: a lane-local permit plus one, or one of these.
constexpr std::uint64_t kHeartbeatCookie = std::uint64_t{1} << 32;
constexpr std::uint64_t kInfoSentCookie = std::uint64_t{2} << 32;
// Cookies of posted receives: an index of key_buffers_, or this.
constexpr std::uint64_t kInfoReceiveCookie = ~std::uint64_t{0};

constexpr std::uint32_t kHeartbeatsPostedMax = 4;
constexpr std::uint32_t kSpareReceives = 16;  // heartbeats, their answers, the info response
constexpr std::size_t kUsualSegments = 130;

}  // namespace

Channel::Channel(LaneImpl& lane, Loop& home, ChannelHandler& handler, ConnectionCounters& counters,
                 const PathHealth& health)
    : lane_(lane),
      loop_(lane.loop()),
      home_(home),
      handler_(handler),
      counters_(counters),
      health_(health) {}

// Connection 0 does not know yet what the server grants; its share is bounded by a constant.
std::uint32_t Channel::receives() const {
  // An answer takes one receive; with key refresh a fabric without send_imm spends two; an
  // invalidation, one.
  return permits_.count * (limits_.new_rkey ? 3 : 2) + kSpareReceives;
}

void Channel::connect(const ConnectCommand& command) {
  const bool service = lane_.cid() == 0;
  if (!service) prepare(command.limits, command.permits);
  const std::uint32_t permits = service ? kServicePermitsMax : command.permits.count;
  const fabric::ConnectionOptions options{
      .send_depth = permits + kHeartbeatsPostedMax + 1,
      .receive_depth = permits * 3 + kSpareReceives + 1,
      .windows = permits,
  };
  const fabric::ConnectRequest request{.address = command.address,
                                       .private_data = wire::bytes_of(command.request),
                                       .timeout = command.timeout};
  send_imm_ = command.domain->capabilities().send_imm;
  auto connection = lane_.fabric().connect(request, *command.domain, options, *this);
  if (!connection) {
    closing_ = true;
    tell([cid = lane_.cid(), why = connection.error()](ChannelHandler& handler) {
      handler.on_channel_closed(cid, why);
    });
    return;
  }
  connection_ = std::move(*connection);
}

void Channel::prepare(const wire::ConnectAccept& limits, const PermitRange& permits) {
  limits_ = limits;
  permits_ = permits;
  immediate_ = wire::RequestImmediate(limits.queue_depth);
  entries_.resize(permits.count);
  slots_.resize(permits.count * kSlotSize);
  iovecs_.reserve(kUsualSegments);
  if (limits.new_rkey) key_buffers_.resize(receives());
}

bool Channel::post_receive(std::uint64_t index) {
  std::span<std::byte> buffer;
  if (limits_.new_rkey) buffer = key_buffers_[index];
  const auto error = connection_->post_receive(buffer, index);
  if (error) fail(error);
  return !error;
}

bool Channel::post_receives() {
  for (std::uint32_t i = 0; i < receives(); ++i) {
    if (!post_receive(i)) return false;
  }
  return true;
}

void Channel::on_connected(std::span<const std::byte> private_data) {
  if (closing_) return;
  if (lane_.cid() != 0 && !post_receives()) return;
  tell([cid = lane_.cid(),
        accept = std::vector<std::byte>(private_data.begin(), private_data.end()),
        address = fabric::PathAddress{connection_->local_address(), connection_->peer_address()},
        digest = connection_->digest()](ChannelHandler& handler) {
    handler.on_channel_connected(cid, accept, address, digest);
  });
}

void Channel::on_rejected(std::span<const std::byte> private_data) {
  if (!error_) error_ = wire::parse_connect_reject(private_data);
}

void Channel::send_info(const std::string& name, const wire::ConnectAccept& limits,
                        const PermitRange& permits) {
  if (closing_) return;
  prepare(limits, permits);
  // The first message from the server is the info response; everything after it finds receives as
  // well.
  info_response_.resize(wire::info_response_size(limits.queue_depth));
  if (auto error = connection_->post_receive(info_response_, kInfoReceiveCookie))
    return fail(error);
  if (!post_receives()) return;
  info_request_ = wire::encode_info_request(name);
  const auto bytes = wire::bytes_of(info_request_);
  const iovec local{const_cast<std::byte*>(bytes.data()), bytes.size()};
  const fabric::Work work{
      .op = fabric::Work::Op::send, .local = {&local, 1}, .cookie = kInfoSentCookie};
  if (auto error = connection_->post({&work, 1})) fail(error);
}

void Channel::on_info(const fabric::ReceiveEvent& event) {
  if (event.kind != fabric::ReceiveEvent::Kind::send) return fail(Errc::protocol_violation);
  tell([bytes = std::vector<std::byte>(event.bytes.begin(), event.bytes.end())](
           ChannelHandler& handler) { handler.on_info_response(bytes); });
}

void Channel::activate(std::vector<wire::RemoteChunk> chunks, const SessionLimits& limits,
                       bool holds_writes) {
  if (closing_) return;
  RNBD_ASSERT(chunks.size() == permits_.count);
  chunks_ = std::move(chunks);
  lane_.set_permits(permits_);
  lane_.set_limits(limits);
  lane_.set_holds_writes(holds_writes);
  lane_.add_channel(*this);
  tell([cid = lane_.cid()](ChannelHandler& handler) { handler.on_channel_active(cid); });
}

void Channel::fail(std::error_code why) {
  if (closing_) return;
  if (why == Errc::flushed || why == from_errno(ENOTCONN)) {
    // It is ending already, and on_closed will say why: closing anew would cut a last word short.
    closing_ = true;
    lane_.remove_channel(*this);
    return;
  }
  if (!error_) error_ = why;
  close(why, false);
}

void Channel::close(std::error_code why, bool graceful) {
  if (closing_) return;
  closing_ = true;
  lane_.remove_channel(*this);
  connection_->close(why, graceful);
}

void Channel::on_closed(std::error_code why) {
  closing_ = true;
  lane_.remove_channel(*this);
  connection_.reset();
  tell([cid = lane_.cid(), error = error_ ? error_ : why](ChannelHandler& handler) {
    handler.on_channel_closed(cid, error);
  });
}

void Channel::release(std::error_code why, LossId loss) {
  RNBD_ASSERT(connection_ == nullptr);
  std::size_t lost = 0;
  // By index: a done function may submit anew, which this channel refuses.
  for (std::uint32_t permit = 0; permit < entries_.size(); ++permit) {
    Entry& entry = entries_[permit];
    if (entry.request == nullptr) continue;
    Request& request = *entry.request;
    const bool unknown = loss != 0 && !entry.answered;
    const std::error_code error = entry.answered ? from_errno(entry.error) : why;
    entry = Entry{};
    counters_.inflight.subtract();
    if (!unknown) {
      lane_.complete(request, permit, error);
    } else {
      ++lost;
      request.lost_on = path();
      lane_.lose(loss, request, permit);
    }
  }
  lane_.start_waiting();
  tell([cid = lane_.cid(), lost](ChannelHandler& handler) {
    handler.on_channel_released(cid, lost);
  });
}

void Channel::on_receive(const fabric::ReceiveEvent& event) {
  using Kind = fabric::ReceiveEvent::Kind;
  if (event.kind == Kind::flushed || closing_) return;
  counters_.received.add();
  if (event.cookie == kInfoReceiveCookie) return on_info(event);
  if (event.kind == Kind::immediate) {
    if (post_receive(event.cookie)) on_immediate(event.immediate);
    return;
  }
  std::array<std::byte, sizeof(wire::layout::RkeyResponse)> copy{};
  const std::size_t size = std::min(event.bytes.size(), copy.size());
  std::copy_n(event.bytes.begin(), size, copy.begin());
  if (post_receive(event.cookie)) on_send(std::span(copy).first(size), event);
}

void Channel::on_done(std::uint64_t cookie, std::error_code error) {
  if (cookie == kHeartbeatCookie) {
    on_heartbeat_sent();
  } else if (cookie != kInfoSentCookie) {
    const auto permit = static_cast<std::uint32_t>(cookie - 1);
    Entry& entry = entries_[permit];
    entry.sent = true;
    if (entry.answered) {
      finish(permit);
    } else if (entry.request != nullptr && entry.request->heir != nullptr && !error) {
      give_up(*entry.request);
    }
  }
  if (error) fail(error);
}

void Channel::send_heartbeat(std::uint32_t immediate) {
  if (closing_) return;
  if (heartbeats_posted_ < kHeartbeatsPostedMax) return post_heartbeat(immediate);
  (immediate == wire::kHeartbeatImmediate ? heartbeat_waits_ : heartbeat_ack_waits_) = true;
}

void Channel::post_heartbeat(std::uint32_t immediate) {
  const fabric::Work work{
      .op = fabric::Work::Op::write_imm, .immediate = immediate, .cookie = kHeartbeatCookie};
  if (auto error = connection_->post({&work, 1})) return fail(error);
  ++heartbeats_posted_;
}

void Channel::on_heartbeat_sent() {
  --heartbeats_posted_;
  if (closing_) return;
  if (heartbeat_ack_waits_) {
    heartbeat_ack_waits_ = false;
    post_heartbeat(wire::kHeartbeatAckImmediate);
  } else if (heartbeat_waits_) {
    heartbeat_waits_ = false;
    post_heartbeat(wire::kHeartbeatImmediate);
  }
}

}  // namespace rnbd::rtrs::client
