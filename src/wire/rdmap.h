#pragma once
// RDMAP messages: RFC 5040 section 4, and Immediate Data RFC 7306 section 6. Terminate messages are
// built by the RFC's layout; Linux siw on little-endian machines swaps bits, so both readings are
// described.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/endian.h"
#include "wire/ddp.h"

namespace rnbd::wire {

enum class RdmapOp : std::uint8_t {
  write = 0,
  read_request = 1,
  read_response = 2,
  send = 3,
  send_invalidate = 4,
  send_solicited = 5,
  send_invalidate_solicited = 6,
  terminate = 7,
  immediate = 8,
  immediate_solicited = 9,
};

inline constexpr std::uint8_t kRdmapVersionMask = 0xc0;
inline constexpr std::uint8_t kRdmapVersion = 0x40;
inline constexpr std::uint8_t kRdmapOpMask = 0x0f;
constexpr std::uint8_t rdmap_control(RdmapOp op) {
  return static_cast<std::uint8_t>(kRdmapVersion | static_cast<std::uint8_t>(op));
}

inline constexpr std::uint32_t kSendQueue = 0;       // QN of Sends and Immediate Data
inline constexpr std::uint32_t kReadQueue = 1;       // QN of Read Requests
inline constexpr std::uint32_t kTerminateQueue = 2;  // QN of Terminate

// The payload of Immediate Data: RTRS's 32 bits go into one half, the other is 0 and never checked.
struct ImmediatePayload {
  be32 high;
  be32 low;
};
static_assert(WireStruct<ImmediatePayload, 8>);

// Why a stream dies, as Terminate says it.
struct TerminateCause {
  std::uint8_t layer = 0;  // 0 RDMAP, 1 DDP, 2 MPA
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  bool with_header = false;  // the culprit's DDP header goes along
  friend bool operator==(const TerminateCause&, const TerminateCause&) = default;
};

namespace terminate {
inline constexpr TerminateCause kLocalCatastrophe{0, 0, 0x00, false};
inline constexpr TerminateCause kRdmapStagNotInvalidatable{0, 1, 0x09, true};
inline constexpr TerminateCause kRdmapVersion{0, 2, 0x05, true};
inline constexpr TerminateCause kRdmapUnexpectedOpcode{0, 2, 0x06, true};
inline constexpr TerminateCause kRdmapBadMessage{0, 2, 0x07, true};
inline constexpr TerminateCause kRdmapCannotInvalidate{0, 2, 0x09, true};
inline constexpr TerminateCause kTaggedStag{1, 1, 0x00, true};
inline constexpr TerminateCause kTaggedBounds{1, 1, 0x01, true};
inline constexpr TerminateCause kTaggedWrap{1, 1, 0x03, true};
inline constexpr TerminateCause kTaggedVersion{1, 1, 0x04, true};
inline constexpr TerminateCause kUntaggedQueue{1, 2, 0x01, true};
inline constexpr TerminateCause kUntaggedNoBuffer{1, 2, 0x02, true};
inline constexpr TerminateCause kUntaggedSequence{1, 2, 0x03, true};
inline constexpr TerminateCause kUntaggedOffset{1, 2, 0x04, true};
inline constexpr TerminateCause kUntaggedTooLong{1, 2, 0x05, true};
inline constexpr TerminateCause kUntaggedVersion{1, 2, 0x06, true};
inline constexpr TerminateCause kMpaCrc{2, 0, 0x02, false};
inline constexpr TerminateCause kMpaFraming{2, 0, 0x03, false};
}  // namespace terminate

inline constexpr std::size_t kTerminatePayloadMax =
    64;  // more than any layout of RFC 5040 section 4.8 has
inline constexpr std::size_t kTerminateFpduMax = 20 + 4 + 2 + 18 + 4 + 4;

// Builds the whole FPDU. `culprit` is the DDP header of the faulty segment as it came, behind its
// length field (14 or 18 bytes), and `culprit_length` its length field; used if the cause wants it.
// `crc` as agreed.
std::size_t build_terminate(const TerminateCause& cause, std::span<const std::byte> culprit,
                            std::uint16_t culprit_length, bool crc,
                            std::span<std::byte, kTerminateFpduMax> out);

struct TerminateReading {
  std::string text;                // for the log: every plausible reading, and the raw bytes
  bool unexpected_opcode = false;  // some reading says so: the peer may lack RFC 7306
};
// Of the payload of a Terminate somebody sent; any bytes will do.
TerminateReading describe_terminate(std::span<const std::byte> payload);
const char* terminate_name(const TerminateCause& cause);

}  // namespace rnbd::wire
