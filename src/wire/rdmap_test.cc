#include "wire/rdmap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "wire/bytes.h"
#include "wire/crc32c.h"

namespace rnbd::wire {
namespace {

using Bytes = std::vector<std::byte>;

std::string to_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const std::byte b : bytes) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

template <class Header>
Bytes fpdu(const Header& header, std::span<const std::byte> payload) {
  Bytes out(sizeof(Header));
  store(out, header);
  out.insert(out.end(), payload.begin(), payload.end());
  while (out.size() % 4 != 0) out.push_back(std::byte{0});
  const FpduCrc crc = crc32c(out);
  const auto crc_bytes = bytes_of(crc);
  out.insert(out.end(), crc_bytes.begin(), crc_bytes.end());
  return out;
}

TEST(Fpdu, SizesArePaddedToFourAndCarryACrc) {
  EXPECT_EQ(fpdu_size(14), 20U);  // empty tagged
  EXPECT_EQ(fpdu_size(18), 24U);  // empty untagged
  EXPECT_EQ(fpdu_size(19), 28U);
  EXPECT_EQ(fpdu_size(26), 32U);  // Immediate Data
  EXPECT_EQ(fpdu_size(65535), kFpduSizeMax);
}

TEST(Fpdu, ASendIsAsOnTheWire) {
  const UntaggedHeader header{.ulpdu_length = 18 + 24,
                              .ddp = kDdpLast | kDdpVersion,
                              .rdmap = rdmap_control(RdmapOp::send),
                              .invalidate_stag = 0,
                              .queue = kSendQueue,
                              .sequence = 1,
                              .message_offset = 0};
  EXPECT_EQ(to_hex(fpdu(header, Bytes(24))),
            "002A414300000000000000000000000100000000" + std::string(48, '0') + "B7243EC3");
}

TEST(Fpdu, AnImmediateIsAsOnTheWire) {
  const UntaggedHeader header{.ulpdu_length = 26,
                              .ddp = kDdpLast | kDdpVersion,
                              .rdmap = rdmap_control(RdmapOp::immediate),
                              .invalidate_stag = 0,
                              .queue = kSendQueue,
                              .sequence = 1,
                              .message_offset = 0};
  const ImmediatePayload payload{.high = 0x10000007, .low = 0};
  EXPECT_EQ(to_hex(fpdu(header, bytes_of(payload))),
            "001A4148000000000000000000000001000000001000000700000000FD6889E3");
}

TEST(Fpdu, AWriteIsAsOnTheWire) {
  const TaggedHeader header{.ulpdu_length = 14 + 5,
                            .ddp = kDdpTagged | kDdpLast | kDdpVersion,
                            .rdmap = rdmap_control(RdmapOp::write),
                            .stag = 0x7F0FC601,
                            .offset = 0x1000};
  const std::array<char, 5> hello = {'h', 'e', 'l', 'l', 'o'};
  EXPECT_EQ(to_hex(fpdu(header, std::as_bytes(std::span(hello)))),
            "0013C1407F0FC601000000000000100068656C6C6F000000624549BE");
}

TEST(Fpdu, ASendWithInvalidateIsAsOnTheWire) {
  const UntaggedHeader header{.ulpdu_length = 18,
                              .ddp = kDdpLast | kDdpVersion,
                              .rdmap = rdmap_control(RdmapOp::send_invalidate),
                              .invalidate_stag = 0x4ED01001,
                              .queue = kSendQueue,
                              .sequence = 3,
                              .message_offset = 0};
  EXPECT_EQ(to_hex(fpdu(header, {})), "001241444ED01001000000000000000300000000DDE89D63");
}

TEST(Terminate, AnMpaCrcErrorIsAsOnTheWire) {
  std::array<std::byte, kTerminateFpduMax> buffer;
  const std::size_t n = build_terminate(terminate::kMpaCrc, {}, 0, true, buffer);
  EXPECT_EQ(to_hex(std::span(buffer).first(n)),
            "0016414700000000000000020000000100000000200200007FE42585");
}

TEST(Terminate, CarriesTheCulpritsHeader) {
  std::array<std::byte, kTerminateFpduMax> buffer;
  const Bytes culprit(kTaggedHeaderUlpdu, std::byte{0xAB});
  const std::size_t n = build_terminate(terminate::kTaggedBounds, culprit, 4110, false, buffer);
  EXPECT_EQ(n, fpdu_size(18 + 4 + 2 + 14));
  EXPECT_EQ(to_hex(std::span(buffer).subspan(20, 20)), "1101C000100E" + to_hex(culprit));
  EXPECT_EQ(to_hex(std::span(buffer).subspan(n - 4, 4)), "00000000");
}

Bytes payload(std::initializer_list<unsigned> values) {
  Bytes out;
  for (const unsigned v : values) out.push_back(static_cast<std::byte>(v));
  return out;
}

TEST(Terminate, IsReadByTheRfcWhenItsFlagsSaySo) {
  const auto reading = describe_terminate(payload({0x11, 0x01, 0xC0, 0x00, 0x00}));
  EXPECT_EQ(reading.text, "1/1/01 outside the registered memory (raw 1101c00000)");
  EXPECT_FALSE(reading.unexpected_opcode);
}

TEST(Terminate, IsReadTheSiwWayWhenItsFlagsAreSwapped) {
  const auto reading = describe_terminate(payload({0x02, 0x02, 0x03, 0x00}));
  EXPECT_EQ(reading.text, "2/0/02 MPA CRC mismatch (raw 02020300)");
}

TEST(Terminate, WithoutFlagsShowsBothReadings) {
  const auto reading = describe_terminate(payload({0x20, 0x06, 0x00, 0x00}));
  EXPECT_EQ(reading.text,
            "2/0/06 unknown, or from Linux siw 0/2/06 unexpected opcode (raw 20060000)");
  EXPECT_TRUE(reading.unexpected_opcode);
}

TEST(Terminate, OfAnyLengthCanBeDescribed) {
  for (std::size_t n = 0; n < 200; ++n) {
    EXPECT_NE(describe_terminate(Bytes(n, std::byte{0xff})).text.find("raw"), std::string::npos);
  }
}

TEST(Terminate, EveryCauseWeSendHasAName) {
  for (const auto& cause :
       {terminate::kLocalCatastrophe, terminate::kRdmapStagNotInvalidatable,
        terminate::kRdmapVersion, terminate::kRdmapUnexpectedOpcode, terminate::kTaggedStag,
        terminate::kUntaggedNoBuffer, terminate::kMpaFraming}) {
    EXPECT_STRNE(terminate_name(cause), "unknown");
  }
}

}  // namespace
}  // namespace rnbd::wire
