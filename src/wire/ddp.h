#pragma once
// FPDUs and their headers: MPA RFC 5044 section 4.1, DDP RFC 5041 section 4, RDMAP control byte RFC
// 5040 section 4.1. Each header struct starts with the FPDU's length field, so its offsets are FPDU
// offsets.

#include <cstddef>
#include <cstdint>

#include "base/endian.h"

namespace rnbd::wire {

// Most bytes of a DDP segment that DDP may hand to MPA (RFC 5044 section 3).
inline constexpr std::size_t kUlpduMax = 64768;
inline constexpr std::size_t kFpduCrcSize = 4;
inline constexpr std::size_t kFpduLengthSize = 2;
// The largest frame whose length the field can say: 2 + 65,535 + pad + CRC.
inline constexpr std::size_t kFpduSizeMax = 65544;

constexpr std::size_t fpdu_padding(std::size_t ulpdu) {
  return (4 - ((ulpdu + kFpduLengthSize) & 3)) & 3;
}
// Length field, segment, pad and CRC.
constexpr std::size_t fpdu_size(std::size_t ulpdu) {
  return kFpduLengthSize + ulpdu + fpdu_padding(ulpdu) + kFpduCrcSize;
}

inline constexpr std::uint8_t kDdpTagged = 0x80;
inline constexpr std::uint8_t kDdpLast = 0x40;
inline constexpr std::uint8_t kDdpVersionMask = 0x03;
inline constexpr std::uint8_t kDdpVersion = 0x01;

struct TaggedHeader {
  be16 ulpdu_length;  // 14 and the payload
  std::uint8_t ddp;
  std::uint8_t rdmap;
  be32 stag;
  be64 offset;
};
static_assert(WireStruct<TaggedHeader, 16>);
static_assert(offsetof(TaggedHeader, stag) == 4 && offsetof(TaggedHeader, offset) == 8);

struct UntaggedHeader {
  be16 ulpdu_length;  // 18 and the payload
  std::uint8_t ddp;
  std::uint8_t rdmap;
  be32 invalidate_stag;
  be32 queue;
  be32 sequence;        // MSN: 1, 2, ... per queue
  be32 message_offset;  // MO
};
static_assert(WireStruct<UntaggedHeader, 20>);
static_assert(offsetof(UntaggedHeader, queue) == 8 &&
              offsetof(UntaggedHeader, message_offset) == 16);

// Bytes of a DDP segment that are header.
inline constexpr std::size_t kTaggedHeaderUlpdu = sizeof(TaggedHeader) - kFpduLengthSize;
inline constexpr std::size_t kUntaggedHeaderUlpdu = sizeof(UntaggedHeader) - kFpduLengthSize;

// The CRC field: least significant byte first (RFC 5044 section 4.4).
using FpduCrc = le32;

}  // namespace rnbd::wire
