// The half of Receiver that knows messages: in which order segments may come, and what a whole
// message does.

#include <limits>

#include "fabric/iwarp/receiver.h"
#include "wire/bytes.h"

namespace rnbd::fabric::iwarp {

using wire::RdmapOp;
namespace terminate = wire::terminate;

namespace {

Fault framing(const wire::TerminateCause& cause) { return {cause, Errc::framing_error}; }

constexpr std::uint64_t kMessageMax = std::numeric_limits<std::uint32_t>::max();

}  // namespace

bool Receiver::needs_receive(const Segment& segment) const {
  return !segment.tagged && segment.op != RdmapOp::terminate;
}

std::optional<Fault> Receiver::check(const Segment& segment) {
  if (segment.op == RdmapOp::terminate) return check_terminate(segment);
  // Segments of nothing that end nothing could come for ever, at no cost to the peer.
  const bool idle = segment.payload == 0 && !segment.last;
  if (segment.tagged) return idle ? framing(terminate::kRdmapBadMessage) : check_tagged(segment);
  if (const auto fault = check_untagged(segment)) return fault;
  if (idle) return framing(terminate::kRdmapBadMessage);
  return std::nullopt;
}

std::optional<Fault> Receiver::check_tagged(const Segment& segment) {
  if (open_ == Open::send) return framing(terminate::kRdmapBadMessage);
  if (segment.payload == 0)
    return std::nullopt;  // STag and TO are not looked at (RFC 5041 section 5.2)
  if (open_ == Open::write) {
    if (segment.stag != open_stag_ || segment.offset != next_offset_) {
      return framing(terminate::kRdmapBadMessage);
    }
    if (segment.payload > kMessageMax - message_bytes_) return framing(terminate::kRdmapBadMessage);
  }
  return resolve_target(segment.payload);
}

std::optional<Fault> Receiver::check_untagged(const Segment& segment) {
  if (segment.queue != wire::kSendQueue) return framing(terminate::kUntaggedQueue);
  if (open_ == Open::write) return framing(terminate::kRdmapBadMessage);
  if (segment.sequence != next_sequence_) return framing(terminate::kUntaggedSequence);
  const std::uint64_t expected_offset = open_ == Open::send ? message_bytes_ : 0;
  if (segment.immediate()) {
    const bool alone = segment.last && segment.offset == 0 && open_ == Open::none;
    if (!alone || segment.payload != sizeof(wire::ImmediatePayload)) {
      return framing(terminate::kRdmapBadMessage);
    }
    return std::nullopt;
  }
  if (segment.offset != expected_offset) return framing(terminate::kUntaggedOffset);
  if (open_ == Open::send) {
    const bool same =
        segment.op == open_op_ && (!segment.invalidates() || segment.stag == open_stag_);
    if (!same) return framing(terminate::kRdmapBadMessage);
  }
  if (!receives_.empty()) {
    const std::size_t room = receives_.front().buffer.size();
    if (expected_offset > room || segment.payload > room - expected_offset) {
      return framing(terminate::kUntaggedTooLong);
    }
  }
  return open_ == Open::none ? check_invalidation(segment) : std::nullopt;
}

std::optional<Fault> Receiver::check_invalidation(const Segment& segment) const {
  if (!segment.invalidates()) return std::nullopt;
  switch (keys_.may_invalidate(segment.stag)) {
    case Keys::Invalidation::allowed:
      return std::nullopt;
    case Keys::Invalidation::unknown:
      return Fault{terminate::kRdmapCannotInvalidate, Errc::remote_access};
    case Keys::Invalidation::not_a_window:
      break;
  }
  return Fault{terminate::kRdmapStagNotInvalidatable, Errc::remote_access};
}

// Allowed at any time: a peer in trouble may have a message half sent.
std::optional<Fault> Receiver::check_terminate(const Segment& segment) const {
  if (segment.queue != wire::kTerminateQueue) return framing(terminate::kUntaggedQueue);
  if (segment.sequence != 1) return framing(terminate::kUntaggedSequence);
  if (segment.offset != 0) return framing(terminate::kUntaggedOffset);
  if (segment.payload > terminate_.size()) return framing(terminate::kUntaggedTooLong);
  if (!segment.last) return framing(terminate::kRdmapBadMessage);
  return std::nullopt;
}

Receiver::Step Receiver::finish_segment() {
  heard_ = true;
  if (segment_.op == RdmapOp::terminate) {
    terminate_size_ = segment_.payload;
    status_ = Status::terminated;
    return Step::wait;
  }
  if (segment_.immediate()) {
    deliver_immediate();
    return Step::go_on;
  }
  if (segment_.tagged && segment_.payload != 0) {
    keys_.wrote(segment_.stag, segment_.offset, segment_.payload);
  }
  if (open_ == Open::none) {
    open_ = segment_.tagged ? Open::write : Open::send;
    open_op_ = segment_.op;
    open_stag_ = segment_.stag;
    message_bytes_ = 0;
  }
  message_bytes_ += segment_.payload;
  next_offset_ = segment_.offset + segment_.payload;
  if (!segment_.last) return Step::go_on;
  open_ = Open::none;
  if (!segment_.tagged) deliver_send();
  return Step::go_on;
}

void Receiver::deliver_send() {
  ++next_sequence_;
  const PostedReceive receive = receives_.pop();
  ReceiveEvent event{};
  event.kind = ReceiveEvent::Kind::send;
  event.cookie = receive.cookie;
  event.bytes = receive.buffer.first(message_bytes_);
  if (segment_.invalidates()) {
    // The key is dead before the message is seen (RFC 5040 section 5.3); we may have hidden it
    // ourselves.
    if (keys_.may_invalidate(segment_.stag) == Keys::Invalidation::allowed) {
      keys_.invalidate(segment_.stag);
    }
    event.invalidated_key = segment_.stag;
  }
  sink_.on_receive(event);
}

void Receiver::deliver_immediate() {
  ++next_sequence_;
  const PostedReceive receive = receives_.pop();
  const auto payload = wire::load<wire::ImmediatePayload>(immediate_);
  ReceiveEvent event{};
  event.kind = ReceiveEvent::Kind::immediate;
  event.cookie = receive.cookie;
  event.immediate = options_.immediate_half == ImmediateHalf::high ? payload->high : payload->low;
  sink_.on_receive(event);
}

}  // namespace rnbd::fabric::iwarp
