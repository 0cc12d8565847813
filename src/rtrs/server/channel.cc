#include "rtrs/server/channel.h"

#include <algorithm>

#include "base/probe.h"
#include "rtrs/server/path_state.h"

RNBD_PROBE_DEFINE(rtrs_srv, send_io_resp_imm);

namespace rnbd::rtrs::server {
namespace {

// Cookies of posted work: how many items of a response it stands for, or one of these.
constexpr std::uint64_t kHeartbeatCookie = std::uint64_t{1} << 32;
constexpr std::uint64_t kInfoSentCookie = std::uint64_t{2} << 32;
// Cookies of posted receives.
constexpr std::uint64_t kPlainReceiveCookie = 0;
constexpr std::uint64_t kInfoReceiveCookie = 1;

constexpr std::uint32_t kItemsPerResponse = 3;      // data, invalidation, immediate
constexpr std::uint32_t kResponsesQueuedMax = 512;  // more wait in our own list
constexpr std::uint32_t kHeartbeatsPostedMax = 4;
constexpr std::uint32_t kSpareReceives = 16;  // heartbeats and their answers

bool announced(const ServerOptions& options) { return options.identity != wire::Extension{}; }

}  // namespace

Channel::Channel(fabric::Fabric& fabric, std::size_t loop_index, std::uint16_t cid,
                 PathShared& shared, Loop& control, ChannelHandler& handler,
                 std::unique_ptr<fabric::IncomingConnection> incoming)
    : fabric_(fabric),
      loop_index_(loop_index),
      cid_(cid),
      shared_(shared),
      counters_(shared.counters[cid]),
      control_(control),
      handler_(handler),
      incoming_(std::move(incoming)),
      immediate_(shared.options.queue_depth),
      can_invalidate_(shared.domain->capabilities().send_invalidate),
      heartbeat_(fabric.loop(), shared.options.heartbeat, *this) {}

// Where gates have keys, one is opened, too.
std::uint32_t Channel::items_per_response() const { return kItemsPerResponse + (keyed() ? 1 : 0); }

void Channel::accept() {
  const std::uint32_t depth = shared_.options.queue_depth;
  credits_ = items_per_response() * std::min(depth, kResponsesQueuedMax);
  const std::uint32_t gates = keyed() ? depth : 0;  // being shut, or opened for the first time
  const fabric::ConnectionOptions options{.send_depth = credits_ + gates + kHeartbeatsPostedMax + 1,
                                          .receive_depth = depth + kSpareReceives + 1};
  std::array<std::byte, sizeof(wire::layout::ConnectResponse) + sizeof(wire::layout::Extension)>
      answer;
  std::size_t size = wire::store(
      answer, wire::encode_connect_accept(
                  {.queue_depth = static_cast<std::uint16_t>(depth),
                   .max_io_size = shared_.options.max_chunk_size - shared_.options.header_size,
                   .max_hdr_size = shared_.options.header_size,
                   .new_rkey = keyed()}));
  if (cid_ == 0 && announced(shared_.options)) {
    size += wire::store(std::span(answer).subspan(size),
                        wire::encode_extension(shared_.options.identity));
  }
  auto connection = fabric_.accept(std::move(incoming_), *shared_.domain,
                                   std::span(answer).first(size), options, *this);
  if (!connection) return on_closed(connection.error());
  connection_ = std::move(*connection);
  shared_.digest = connection_->digest();
  post_receives();
}

// All that an honest client can ever send before it hears from us again finds its receive posted.
bool Channel::post_receives() {
  if (cid_ == 0) {
    if (auto error = connection_->post_receive(info_request_, kInfoReceiveCookie))
      return fail(error), false;
  }
  for (std::uint32_t i = 0; i < shared_.options.queue_depth + kSpareReceives; ++i) {
    if (auto error = connection_->post_receive({}, kPlainReceiveCookie)) return fail(error), false;
  }
  return true;
}

void Channel::send_info_response(std::vector<std::byte> bytes) {
  if (closing_) return;
  heartbeat_.start();
  info_response_ = keyed() ? open_all_chunks() : std::move(bytes);
  if (closing_) return;
  const iovec local{info_response_.data(), info_response_.size()};
  const fabric::Work work{
      .op = fabric::Work::Op::send, .local = {&local, 1}, .cookie = kInfoSentCookie};
  if (auto error = connection_->post({&work, 1})) fail(error);
}

// ---- The end ----

void Channel::fail(std::error_code why) {
  if (closing_) return;
  if (why == Errc::flushed || why == from_errno(ENOTCONN)) {
    // It is ending already, and on_closed will say why: closing anew would cut a last word short.
    shared_.gate.shut_now();
    closing_ = true;
    heartbeat_.stop();
    return;
  }
  if (!error_) error_ = why;
  begin_close(why, false);
}

void Channel::close(std::error_code why, bool graceful) {
  last_command_seen_ = true;
  if (closed_) return maybe_finished();
  begin_close(why, graceful);
}

void Channel::begin_close(std::error_code why, bool graceful) {
  if (closing_) return;
  shared_.gate.shut_now();
  closing_ = true;
  heartbeat_.stop();
  drop_parked();
  connection_->close(why, graceful);
}

void Channel::on_closed(std::error_code why) {
  shared_.gate.shut_now();
  closing_ = closed_ = true;
  heartbeat_.stop();
  connection_.reset();
  tell([cid = cid_, error = error_ ? error_ : why](ChannelHandler& handler) {
    handler.on_channel_closed(cid, error);
  });
  while (!waiting_.empty()) release(waiting_.pop_front());
  drop_parked();
  maybe_finished();
}

// Not before the path's close has come: it is the last that is posted to this loop for this
// channel.
void Channel::maybe_finished() {
  if (!closed_ || !last_command_seen_ || outstanding_ != 0) return;
  tell([cid = cid_](ChannelHandler& handler) { handler.on_channel_finished(cid); });
}

void Channel::forget(RequestImpl& request) {
  request.channel_ = nullptr;
  counters_.inflight.subtract();
  --outstanding_;
}

// From here on the client may use the chunk and the permit again.
void Channel::release(RequestImpl& request) {
  const std::uint32_t chunk = request.chunk_;
  forget(request);
  shared_.chunks->set_gate(chunk, true);
  shared_.session_shared.permits.release(chunk, shared_.gate);
}

// What never got its permit never will run. What got it this moment hears of it and gives it back.
void Channel::drop_parked() {
  parked_.for_each([this](RequestImpl& request) {
    if (!shared_.session_shared.permits.take_back(request.chunk_, shared_.gate)) return;
    request.unlink();
    forget(request);
  });
}

// ---- Receiving ----

void Channel::on_receive(const fabric::ReceiveEvent& event) {
  using Kind = fabric::ReceiveEvent::Kind;
  if (event.kind == Kind::flushed || closing_) return;
  counters_.received.add();
  if (event.cookie == kInfoReceiveCookie) {
    if (event.kind != Kind::send) return fail(Errc::protocol_violation);
    tell([bytes = std::vector<std::byte>(event.bytes.begin(), event.bytes.end())](
             ChannelHandler& handler) { handler.on_info_request(bytes); });
    return;
  }
  // Beyond the info request a client sends nothing but immediates.
  if (event.kind != Kind::immediate) return fail(Errc::protocol_violation);
  if (auto error = connection_->post_receive({}, kPlainReceiveCookie)) return fail(error);
  on_immediate(event.immediate);
}

void Channel::on_immediate(std::uint32_t immediate) {
  switch (wire::immediate_type(immediate)) {
    case wire::ImmediateType::io_request:
      return keyed() ? on_keyed_request(immediate) : on_request(immediate);
    case wire::ImmediateType::heartbeat:
      if (cid_ == 0) queue_heartbeat(wire::kHeartbeatAckImmediate);
      return;
    case wire::ImmediateType::heartbeat_ack:
      heartbeat_.on_answer();
      return;
    case wire::ImmediateType::io_response:
    case wire::ImmediateType::io_response_invalidated:
    case wire::ImmediateType::notice:
      return fail(Errc::protocol_violation);
  }
  // Other types are for peers that know them.
}

void Channel::on_request(std::uint32_t immediate) {
  if (!shared_.gate.open()) {
    // Shut: about to close, for whatever reason, and what comes still is dropped.
    return shared_.gate.shut() ? void() : fail(Errc::protocol_violation);
  }
  Chunks& chunks = *shared_.chunks;
  const auto [chunk, offset] = immediate_.decode(immediate);
  if (chunk >= chunks.count() || offset >= chunks.chunk_size())
    return fail(Errc::protocol_violation);
  using Outcome = Permits::Outcome;
  const Outcome outcome = shared_.session_shared.permits.acquire(chunk, shared_.gate, *this);
  if (outcome == Outcome::given_up || (outcome == Outcome::busy && broken(Rule::r2))) return;
  if (outcome == Outcome::busy) return fail(Errc::protocol_violation);

  chunks.set_gate(chunk, false);
  RequestImpl& request = shared_.requests->slot(chunk);
  RNBD_ASSERT(request.channel_ == nullptr);
  request.channel_ = this;
  request.chunk_ = chunk;
  request.arrived_ = fabric_.loop().now();
  request.backend_time_ = Duration{-1};
  ++outstanding_;
  if (outcome == Outcome::waits) {
    parked_.push_back(request);
    tell([](ChannelHandler& handler) { handler.on_permit_collision(); });
  }
  if (!parse(request, offset)) {
    if (outcome == Outcome::taken) release(request);
    return fail(Errc::protocol_violation);
  }
  if (outcome == Outcome::taken) run(request);
}

// The peer may still be able to write to the chunk: copies once, then looks only at the copy.
bool Channel::parse(RequestImpl& request, std::uint32_t offset) {
  const auto bytes = shared_.chunks->bytes(request.chunk_);
  std::array<std::byte, wire::kRtrsMessageMax> copy;
  const auto header =
      std::span(copy).first(std::min<std::size_t>(copy.size(), bytes.size() - offset));
  std::copy_n(bytes.begin() + offset, header.size(), header.begin());
  const auto parsed = wire::parse_io_request(header, offset, shared_.options.header_size);
  counters_.started(parsed && parsed->read ? Direction::read : Direction::write,
                    parsed ? offset : 0);
  if (!parsed) return false;
  take(request, *parsed);
  if (!parsed->control) return true;
  if (cid_ != 0 || !announced(shared_.options)) return false;
  request.control_ = true;
  const auto control = wire::parse_control(header);
  request.error_ = control ? 0 : to_errno(control.error());
  if (control) request.control_message_ = *control;
  return true;
}

void Channel::take(RequestImpl& request, const wire::IoRequest& parsed) {
  const auto bytes = shared_.chunks->bytes(request.chunk_);
  request.direction_ = parsed.read ? Direction::read : Direction::write;
  std::byte* const copy = parsed.usr_len <= RequestImpl::kUsualMessage
                              ? request.message_copy_.data()
                              : shared_.requests->long_message(request.chunk_);
  std::copy_n(bytes.begin() + parsed.data_length, parsed.usr_len, copy);
  request.message_ = {copy, parsed.usr_len};
  request.data_ = bytes.first(parsed.data_length);
  request.control_ = false;
  request.has_target_ = parsed.has_target;
  request.need_invalidate_ = parsed.need_invalidate;
  request.target_ = parsed.target;
  request.reply_length_ = parsed.has_target ? parsed.target.length : 0;
  // A reply that is not as long as its room would leave bytes of the answer undefined at the
  // client.
  const bool answerable = !parsed.has_target || parsed.target.length == parsed.data_length;
  request.error_ = parsed.bad_target || !answerable ? EINVAL : 0;
}

void Channel::run(RequestImpl& request) {
  if (request.error_ != 0) return respond(request, request.error_);
  if (request.control_) return run_control(request);
  shared_.handler.on_request(request);
}

void Channel::on_permit_granted(std::uint32_t permit) {
  fabric_.loop().post([this, permit] { run_granted(permit); });
}

void Channel::run_granted(std::uint32_t permit) {
  RequestImpl& request = shared_.requests->slot(permit);
  RNBD_ASSERT(request.channel_ == this);
  request.unlink();
  if (!closing_ && shared_.gate.open()) return run(request);
  release(request);
  maybe_finished();
}

void Channel::run_control(RequestImpl& request) {
  if (request.control_message_.kind == wire::ControlKind::hello) {
    shared_.session_shared.own_client.store(true, std::memory_order_release);
    heartbeat_.restart(own_heartbeat(shared_.options.fast_heartbeat));
    return respond(request, 0);
  }
  tell([this, &request, fence = request.control_message_](ChannelHandler& handler) {
    handler.on_fence(*this, request, fence);
  });
}

Session& RequestImpl::session() { return channel_->session(); }
std::size_t RequestImpl::loop_index() const { return channel_->loop_index(); }
bool RequestImpl::abandoned() const { return channel_->abandoned(); }
void RequestImpl::respond(int error) {
  RNBD_ASSERT(channel_ != nullptr);
  channel_->respond(*this, error);
}

// ---- Answering ----

void Channel::respond(RequestImpl& request, int error) {
  RNBD_ASSERT(request.channel_ == this);
  request.error_ = error;
  // A path that closes tells no more errors: they may only say that it closes, and the client does
  // the request again elsewhere.
  if (closed_ || (error != 0 && shared_.gate.shut())) {
    release(request);
    return maybe_finished();
  }
  waiting_.push_back(request);
  post_waiting();
}

void Channel::post_waiting() {
  while (!closing_ && !waiting_.empty() && credits_ >= items_per_response())
    post_response(waiting_.pop_front());
}

// As the kernel's: of answers without data.
void Channel::trace_answer(const RequestImpl& request) {
  const bool connected = shared_.gate.open();
  RNBD_PROBE(rtrs_srv, send_io_resp_imm, static_cast<int>(request.direction_),
             static_cast<int>(request.need_invalidate_), static_cast<int>(keyed()), request.chunk_,
             counters_.reads.get() + counters_.writes.get(), 1,
             static_cast<int>(connected ? PathState::connected : PathState::closing),
             request.error_, shared_.path_name.c_str());
}

void Channel::count(const RequestImpl& request) {
  if (request.error_ != 0) counters_.errors.add();
  if (request.backend_time_ < Duration{}) return;
  // What is answered in a later round had to wait for credits.
  const TimePoint answered = std::max(request.backend_until_, fabric_.loop().now());
  const Duration all = answered - request.arrived_;
  counters_.server.add(all - request.backend_time_);
  counters_.backend.add(request.backend_time_);
}

void Channel::post_response(RequestImpl& request) {
  using Op = fabric::Work::Op;
  std::array<fabric::Work, kItemsPerResponse> batch;
  std::uint32_t items = 0;
  const iovec data{request.data_.data(), request.reply_length_};
  if (request.error_ == 0 && request.has_target_) {
    batch[items++] = {.op = Op::write,
                      .local = {&data, 1},
                      .remote = {request.target_.address, request.target_.key, 0}};
  }
  // Where the fabric cannot do it, the plain answer makes the client invalidate its key itself.
  const bool invalidate = request.need_invalidate_ && can_invalidate_;
  if (invalidate)
    batch[items++] = {.op = Op::send_invalidate, .invalidate_key = request.target_.key};
  fabric::Work& answer = batch[items++];
  answer.op = Op::write_imm;
  answer.immediate = wire::encode_response(request.chunk_, request.error_, invalidate);
  answer.cookie = items;

  count(request);
  if (request.error_ != 0 || !request.has_target_) trace_answer(request);
  credits_ -= keyed() ? items + 1 : items;
  release(request);  // before the answer, as the client may use it right after
  const auto work = std::span(batch).first(items);
  if (auto error = keyed() ? post_keyed(work, request) : connection_->post(work)) fail(error);
}

void Channel::on_done(std::uint64_t cookie, std::error_code error) {
  if (cookie == kHeartbeatCookie) {
    --heartbeats_posted_;
    if (closing_) return;
    if (std::exchange(heartbeat_ack_waits_, false)) {
      post_heartbeat(wire::kHeartbeatAckImmediate);
    } else if (std::exchange(heartbeat_waits_, false)) {
      post_heartbeat(wire::kHeartbeatImmediate);
    } else if (std::exchange(notice_waits_, false)) {
      post_heartbeat(wire::kNoticeImmediate);
    }
  } else if ((cookie & kKindMask) == kShutCookie) {
    if (!error && !closing_) on_request(static_cast<std::uint32_t>(cookie));
  } else if ((cookie & kKindMask) == kOpenedCookie) {
    on_chunk_opened(static_cast<std::uint32_t>(cookie));
  } else if ((cookie & kKindMask) == kAnswerCookie) {
    credits_ += cookie & ((1U << kChunkShift) - 1);
    on_chunk_opened(static_cast<std::uint32_t>(cookie) >> kChunkShift);
    post_waiting();
  } else if (cookie != kInfoSentCookie) {
    credits_ += static_cast<std::uint32_t>(cookie);
    post_waiting();
  }
  if (error) fail(error);
}

// ---- Heartbeat ----

std::uint64_t Channel::received_count() const {
  std::uint64_t sum = 0;
  for (std::uint16_t cid = 0; cid < shared_.connections; ++cid)
    sum += shared_.counters[cid].received.get();
  return sum;
}

void Channel::send_heartbeat() { queue_heartbeat(wire::kHeartbeatImmediate); }

void Channel::on_heartbeat_lost() { fail(Errc::heartbeat_lost); }

// Waits its turn when the peer does not take what we send, so a flood of heartbeats costs nothing.
void Channel::queue_heartbeat(std::uint32_t immediate) {
  if (closing_) return;
  if (heartbeats_posted_ < kHeartbeatsPostedMax) return post_heartbeat(immediate);
  (immediate == wire::kHeartbeatImmediate ? heartbeat_waits_ : heartbeat_ack_waits_) = true;
}

// Several that wait are one: it only says that there is something to be looked at.
void Channel::send_notice() {
  if (closing_ || !shared_.session_shared.own_client.load(std::memory_order_acquire)) return;
  if (heartbeats_posted_ < kHeartbeatsPostedMax) return post_heartbeat(wire::kNoticeImmediate);
  notice_waits_ = true;
}

void Channel::post_heartbeat(std::uint32_t immediate) {
  const fabric::Work work{
      .op = fabric::Work::Op::write_imm, .immediate = immediate, .cookie = kHeartbeatCookie};
  if (auto error = connection_->post({&work, 1})) return fail(error);
  ++heartbeats_posted_;
}

}  // namespace rnbd::rtrs::server
