#include "wire/mpa.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace rnbd::wire {
namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(std::string_view hex) {
  Bytes out;
  std::string digits;
  for (const char c : hex) {
    if (c == ' ') continue;
    digits += c;
    if (digits.size() < 2) continue;
    out.push_back(static_cast<std::byte>(std::stoi(digits, nullptr, 16)));
    digits.clear();
  }
  return out;
}

Bytes build(const MpaFrame& frame) {
  std::array<std::byte, kMpaFrameMax> buffer;
  const std::size_t n = build_mpa_frame(frame, buffer);
  return {buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(n)};
}

// Feeds pieces of `step` bytes until an error, the end of the frame, or the end of `bytes`.
std::error_code feed(MpaReader& reader, const Bytes& bytes, std::size_t step) {
  std::size_t at = 0;
  while (at < bytes.size() && !reader.complete()) {
    const auto room = reader.wanted();
    const std::size_t n = std::min({step, room.size(), bytes.size() - at});
    std::memcpy(room.data(), bytes.data() + at, n);
    at += n;
    if (const auto error = reader.received(n)) return error;
  }
  return {};
}

const std::string kRequestKeyHex = "4D50 4120 4944 2052 6571 2046 7261 6D65 ";
const std::string kReplyKeyHex = "4D50 4120 4944 2052 6570 2046 7261 6D65 ";
const std::string kRtrsRequestHex =
    "0000BD1B 00020000 03000100 000102030405060708090A0B0C0D0E0F 101112131415161718191A1B1C1D1E1F "
    "01 0000000000000000000000";

TEST(Mpa, BuildsTheRequestOfTheLinuxClient) {
  const Bytes rtrs = from_hex(kRtrsRequestHex);
  ASSERT_EQ(rtrs.size(), 56U);
  const MpaFrame frame{
      .kind = MpaKind::request, .enhanced = true, .revision = 2, .user_data = rtrs};
  EXPECT_EQ(build(frame), from_hex(kRequestKeyHex + "1002003C 00000000" + kRtrsRequestHex));
}

TEST(Mpa, ParsesTheReplyOfTheLinuxServer) {
  const Bytes wire =
      from_hex(kReplyKeyHex + "1002003C 00000000 BD1B0002 00000002 00F00100 00100000 02000000" +
               std::string(72, '0'));
  ASSERT_EQ(wire.size(), 80U);
  MpaReader reader(MpaKind::reply);
  ASSERT_FALSE(feed(reader, wire, 7));
  ASSERT_TRUE(reader.complete());
  const MpaFrame frame = reader.frame();
  EXPECT_TRUE(frame.enhanced);
  EXPECT_FALSE(frame.crc || frame.markers || frame.rejected || frame.peer_to_peer ||
               frame.write_first);
  EXPECT_EQ(frame.revision, 2);
  ASSERT_EQ(frame.user_data.size(), 56U);
  EXPECT_EQ(frame.user_data[0], std::byte{0xBD});
}

TEST(Mpa, ParsesWhatItBuildsWhateverTheFields) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    const Bytes data(bits % 3, std::byte{0x5a});
    MpaFrame frame{
        .kind = MpaKind::reply,
        .markers = (bits & 1) != 0,
        .crc = (bits & 2) != 0,
        .rejected = (bits & 4) != 0,
        .enhanced = true,
        .revision = 2,
        .peer_to_peer = (bits & 8) != 0,
        .send_first = (bits & 16) != 0,
        .write_first = (bits & 32) != 0,
        .read_first = (bits & 64) != 0,
        .read_depth_in = static_cast<std::uint16_t>((bits & 128) != 0 ? kMpaDepthMax : 5),
        .read_depth_out = 77,
        .user_data = data};
    MpaReader reader(MpaKind::reply);
    ASSERT_FALSE(feed(reader, build(frame), 1));
    ASSERT_TRUE(reader.complete());
    const MpaFrame parsed = reader.frame();
    EXPECT_EQ(build(parsed), build(frame)) << bits;
  }
}

TEST(Mpa, NeverAsksForBytesBehindTheFrame) {
  Bytes wire = build({.kind = MpaKind::request, .enhanced = true, .user_data = {}});
  const std::size_t size = wire.size();
  wire.resize(size + 100);
  MpaReader reader(MpaKind::request);
  std::size_t read = 0;
  while (!reader.complete()) {
    const auto room = reader.wanted();
    std::memcpy(room.data(), wire.data() + read, room.size());
    read += room.size();
    ASSERT_FALSE(reader.received(room.size()));
  }
  EXPECT_EQ(read, size);
  EXPECT_TRUE(reader.wanted().empty());
}

TEST(Mpa, RefusesAWrongKeyAtItsFirstWrongByte) {
  Bytes wire = build({.kind = MpaKind::request, .user_data = {}});
  for (std::size_t i = 0; i < 16; ++i) {
    Bytes damaged(wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    damaged[i] ^= std::byte{0x20};
    MpaReader reader(MpaKind::request);
    EXPECT_EQ(feed(reader, damaged, 1), Errc::framing_error) << i;
  }
  MpaReader reply_wanted(MpaKind::reply);
  EXPECT_EQ(feed(reply_wanted, wire, 100), Errc::framing_error);
}

TEST(Mpa, RefusesUnknownRevisions) {
  for (const unsigned revision : {0U, 3U, 255U}) {
    MpaReader reader(MpaKind::request);
    EXPECT_EQ(feed(reader,
                   build({.revision = static_cast<std::uint8_t>(revision), .user_data = {}}), 100),
              Errc::framing_error);
  }
}

TEST(Mpa, LimitsPrivateData) {
  const auto with_length = [](std::string_view flags_and_length) {
    MpaReader reader(MpaKind::request);
    Bytes wire = from_hex(kRequestKeyHex + std::string(flags_and_length));
    wire.resize(wire.size() + 600);
    return feed(reader, wire, 1000);
  };
  EXPECT_FALSE(with_length("0002 0200"));  // 512
  EXPECT_EQ(with_length("0002 0201"), Errc::framing_error);
  EXPECT_EQ(with_length("0002 FFFF"), Errc::framing_error);
  EXPECT_EQ(with_length("1002 0003"), Errc::framing_error);  // enhanced block cut short
  EXPECT_FALSE(with_length("1002 0004"));
}

TEST(Mpa, IgnoresReservedFlags) {
  MpaReader reader(MpaKind::request);
  ASSERT_FALSE(feed(reader, from_hex(kRequestKeyHex + "0F01 0000"), 100));
  EXPECT_TRUE(reader.complete());
}

}  // namespace
}  // namespace rnbd::wire
