#pragma once
// One DDP segment as its header tells it, and the checks that need nothing but the header (RFC 5041
// section 7.1, RFC 5040 sections 4 and 7).

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "base/error.h"
#include "wire/ddp.h"
#include "wire/rdmap.h"

namespace rnbd::fabric::iwarp {

// Why the stream ends: what the peer is told, and what our side is told.
struct Fault {
  wire::TerminateCause cause;
  std::error_code error;
};

// The first four bytes of a frame: enough to refuse most nonsense.
struct FrameStart {
  be16 ulpdu_length;
  std::uint8_t ddp;
  std::uint8_t rdmap;

  bool tagged() const { return (ddp & wire::kDdpTagged) != 0; }
  bool last() const { return (ddp & wire::kDdpLast) != 0; }
  wire::RdmapOp op() const { return static_cast<wire::RdmapOp>(rdmap & wire::kRdmapOpMask); }
  std::size_t header_size() const {  // with the length field
    return tagged() ? sizeof(wire::TaggedHeader) : sizeof(wire::UntaggedHeader);
  }
  std::size_t frame_size() const { return wire::fpdu_size(ulpdu_length); }
};
static_assert(WireStruct<FrameStart, 4>);

// The length holds the header at least.
std::optional<Fault> check_length(const FrameStart& start);
// Versions and opcode are ours, and T fits the opcode.
std::optional<Fault> check_control(const FrameStart& start);

struct Segment {
  bool tagged = false;
  bool last = false;
  wire::RdmapOp op = wire::RdmapOp::write;
  std::uint32_t stag = 0;    // of a Write; or the key to invalidate
  std::uint64_t offset = 0;  // TO, or MO
  std::uint32_t queue = 0;
  std::uint32_t sequence = 0;
  std::size_t payload = 0;  // bytes
  std::size_t padding = 0;

  bool invalidates() const {
    return op == wire::RdmapOp::send_invalidate || op == wire::RdmapOp::send_invalidate_solicited;
  }
  bool immediate() const {
    return op == wire::RdmapOp::immediate || op == wire::RdmapOp::immediate_solicited;
  }
};

// Of a frame that passed both checks and of which the whole header is there.
Segment parse_segment(const FrameStart& start, std::span<const std::byte> frame);

}  // namespace rnbd::fabric::iwarp
