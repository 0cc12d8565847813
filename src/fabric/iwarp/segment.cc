#include "fabric/iwarp/segment.h"

#include "base/assert.h"
#include "wire/bytes.h"

namespace rnbd::fabric::iwarp {

namespace terminate = wire::terminate;
using wire::RdmapOp;

std::optional<Fault> check_length(const FrameStart& start) {
  if (start.ulpdu_length >= start.header_size() - wire::kFpduLengthSize) return std::nullopt;
  return Fault{terminate::kMpaFraming, Errc::framing_error};
}

std::optional<Fault> check_control(const FrameStart& start) {
  const auto fault = [](const wire::TerminateCause& cause) {
    return Fault{cause, Errc::framing_error};
  };
  if ((start.ddp & wire::kDdpVersionMask) != wire::kDdpVersion) {
    return fault(start.tagged() ? terminate::kTaggedVersion : terminate::kUntaggedVersion);
  }
  if ((start.rdmap & wire::kRdmapVersionMask) != wire::kRdmapVersion) {
    return fault(terminate::kRdmapVersion);
  }
  bool tagged_op = false;
  switch (start.op()) {
    case RdmapOp::write:
      tagged_op = true;
      break;
    case RdmapOp::send:
    case RdmapOp::send_invalidate:
    case RdmapOp::send_solicited:
    case RdmapOp::send_invalidate_solicited:
    case RdmapOp::terminate:
    case RdmapOp::immediate:
    case RdmapOp::immediate_solicited:
      break;
    case RdmapOp::read_request:  // we granted a read depth of 0: there is no buffer for it
      return fault(start.tagged() ? terminate::kRdmapBadMessage : terminate::kUntaggedNoBuffer);
    case RdmapOp::read_response:
      return fault(start.tagged() ? terminate::kRdmapUnexpectedOpcode
                                  : terminate::kRdmapBadMessage);
    default:
      return fault(terminate::kRdmapUnexpectedOpcode);
  }
  if (start.tagged() != tagged_op) return fault(terminate::kRdmapBadMessage);
  return std::nullopt;
}

Segment parse_segment(const FrameStart& start, std::span<const std::byte> frame) {
  Segment segment;
  segment.tagged = start.tagged();
  segment.last = start.last();
  segment.op = start.op();
  segment.payload = start.ulpdu_length + wire::kFpduLengthSize - start.header_size();
  segment.padding = wire::fpdu_padding(start.ulpdu_length);
  if (segment.tagged) {
    const auto header = wire::load<wire::TaggedHeader>(frame);
    RNBD_ASSERT(header.has_value());
    segment.stag = header->stag;
    segment.offset = header->offset;
  } else {
    const auto header = wire::load<wire::UntaggedHeader>(frame);
    RNBD_ASSERT(header.has_value());
    segment.stag = header->invalidate_stag;
    segment.offset = header->message_offset;
    segment.queue = header->queue;
    segment.sequence = header->sequence;
  }
  return segment;
}

}  // namespace rnbd::fabric::iwarp
