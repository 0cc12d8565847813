#include "wire/rdmap.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "base/assert.h"
#include "wire/bytes.h"
#include "wire/crc32c.h"

namespace rnbd::wire {
namespace {

constexpr std::uint16_t kHasLength = 0x8000, kHasDdpHeader = 0x4000;

struct TerminateHead {
  std::uint8_t layer_and_type;
  std::uint8_t code;
  be16 contents;
};
static_assert(WireStruct<TerminateHead, 4>);

struct NamedCause {
  TerminateCause cause;
  const char* name;
};
constexpr NamedCause kNames[] = {
    {terminate::kLocalCatastrophe, "local catastrophe"},
    {terminate::kRdmapStagNotInvalidatable, "STag may not be invalidated"},
    {terminate::kRdmapVersion, "RDMAP version"},
    {terminate::kRdmapUnexpectedOpcode, "unexpected opcode"},
    {terminate::kRdmapBadMessage, "malformed RDMAP message"},
    {terminate::kRdmapCannotInvalidate, "STag cannot be invalidated"},
    {terminate::kTaggedStag, "invalid STag"},
    {terminate::kTaggedBounds, "outside the registered memory"},
    {{1, 1, 0x02, true}, "STag of another stream"},
    {terminate::kTaggedWrap, "tagged offset wraps"},
    {terminate::kTaggedVersion, "DDP version (tagged)"},
    {terminate::kUntaggedQueue, "invalid queue number"},
    {terminate::kUntaggedNoBuffer, "no receive buffer"},
    {terminate::kUntaggedSequence, "message sequence number"},
    {terminate::kUntaggedOffset, "message offset"},
    {terminate::kUntaggedTooLong, "message longer than its buffer"},
    {terminate::kUntaggedVersion, "DDP version (untagged)"},
    {terminate::kMpaCrc, "MPA CRC mismatch"},
    {terminate::kMpaFraming, "MPA framing"},
};

std::string reading(std::uint8_t layer, std::uint8_t type, std::uint8_t code) {
  return fmt::format("{}/{}/{:02x} {}", layer, type, code,
                     terminate_name({layer, type, code, false}));
}

}  // namespace

const char* terminate_name(const TerminateCause& cause) {
  for (const auto& named : kNames) {
    if (named.cause.layer == cause.layer && named.cause.type == cause.type &&
        named.cause.code == cause.code) {
      return named.name;
    }
  }
  return "unknown";
}

std::size_t build_terminate(const TerminateCause& cause, std::span<const std::byte> culprit,
                            std::uint16_t culprit_length, bool crc,
                            std::span<std::byte, kTerminateFpduMax> out) {
  const bool with_header = cause.with_header && !culprit.empty();
  RNBD_ASSERT(culprit.size() <= kUntaggedHeaderUlpdu);
  std::ranges::fill(out, std::byte{0});
  TerminateHead head{};
  head.layer_and_type = static_cast<std::uint8_t>((cause.layer << 4) | cause.type);
  head.code = cause.code;
  head.contents = with_header ? kHasLength | kHasDdpHeader : 0;
  std::size_t size = sizeof(UntaggedHeader);
  size += store(out.subspan(size), head);
  if (with_header) {
    size += store(out.subspan(size), be16{culprit_length});
    std::ranges::copy(culprit, out.begin() + static_cast<std::ptrdiff_t>(size));
    size += culprit.size();
  }
  UntaggedHeader header{};
  header.ulpdu_length = static_cast<std::uint16_t>(size - kFpduLengthSize);
  header.ddp = kDdpLast | kDdpVersion;
  header.rdmap = rdmap_control(RdmapOp::terminate);
  header.queue = kTerminateQueue;
  header.sequence = 1;
  store(out, header);
  size += fpdu_padding(size - kFpduLengthSize);
  const FpduCrc sum = crc ? crc32c(out.first(size)) : 0;
  return size + store(out.subspan(size), sum);
}

TerminateReading describe_terminate(std::span<const std::byte> payload) {
  TerminateReading result;
  std::string raw;
  for (const std::byte b : payload.first(std::min(payload.size(), kTerminatePayloadMax))) {
    raw += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  }
  const auto head = load<TerminateHead>(payload);
  if (!head) {
    result.text = fmt::format("truncated (raw {})", raw);
    return result;
  }
  const auto high = static_cast<std::uint8_t>(head->layer_and_type >> 4);
  const auto low = static_cast<std::uint8_t>(head->layer_and_type & 0x0f);
  // siw on a little-endian machine swaps the nibbles and puts M, D, R into the low bits.
  const unsigned contents = std::to_integer<unsigned>(payload[2]);
  const bool rfc_bits = (contents & 0xe0) != 0;
  const bool siw_bits = (contents & 0x07) != 0;
  const bool by_rfc = rfc_bits || !siw_bits;
  const bool by_siw = !rfc_bits;
  const auto opcode_fault = [&](std::uint8_t layer, std::uint8_t type) {
    return layer == terminate::kRdmapUnexpectedOpcode.layer &&
           type == terminate::kRdmapUnexpectedOpcode.type &&
           head->code == terminate::kRdmapUnexpectedOpcode.code;
  };
  if (by_rfc) {
    result.text = reading(high, low, head->code);
    result.unexpected_opcode = opcode_fault(high, low);
  }
  if (by_siw && high != low) {
    if (by_rfc) result.text += ", or from Linux siw ";
    result.text += reading(low, high, head->code);
    result.unexpected_opcode = result.unexpected_opcode || opcode_fault(low, high);
  }
  if (result.text.empty()) result.text = reading(high, low, head->code);
  result.text += fmt::format(" (raw {})", raw);
  return result;
}

}  // namespace rnbd::wire
