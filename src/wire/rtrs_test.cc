// The tables of the RTRS protocol against captures of Linux 6.12, and every malformation refused.

#include "wire/rtrs.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "wire/testing/hex.h"

namespace rnbd::wire {
namespace {

using test::copy_of;
using test::from_hex;
using test::to_hex;

// The first connection of a session, sent by a kernel client with two CPUs.
const auto kCapturedRequest = from_hex(
    "00 00 bd 1b 00 02 00 00 03 00 01 00 ed 0f 9b b2 7d 1c 4b 58 b6 ec 1a 43 52 28 db 24"
    "2e 86 39 ce 15 76 4d 6e b0 17 e8 38 75 e8 2f 8f 01 00 00 00 00 00 00 00 00 00 00 00");
// A kernel server's accept with always_invalidate=Y.
const auto kCapturedAccept =
    from_hex("bd 1b 00 02 00 00 00 02 00 f0 01 00 00 10 00 00 02 00 00 00", 56);
// Its reject with ECONNRESET.
const auto kCapturedReject = from_hex("bd 1b 00 02 98 ff", 56);

constexpr ConnectAccept kKernelLimits{
    .queue_depth = 512, .max_io_size = 126976, .max_hdr_size = 4096, .new_rkey = true};

std::vector<std::byte> with_byte(std::vector<std::byte> bytes, std::size_t at, unsigned value) {
  bytes.at(at) = static_cast<std::byte>(value);
  return bytes;
}

TEST(ConnectRequest, ParsesTheCapturedOne) {
  const auto request = parse_connect_request(kCapturedRequest);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->cid, 0);
  EXPECT_EQ(request->cid_num, 3);
  EXPECT_EQ(request->recon_cnt, 1);
  EXPECT_EQ(request->sess_uuid[0], 0xed);
  EXPECT_EQ(request->sess_uuid[15], 0x24);
  EXPECT_EQ(request->paths_uuid[0], 0x2e);
  EXPECT_EQ(request->paths_uuid[15], 0x8f);
  EXPECT_TRUE(request->first_conn);
}

TEST(ConnectRequest, EncodesToTheSameBytes) {
  const auto request = parse_connect_request(kCapturedRequest);
  ASSERT_TRUE(request);
  EXPECT_EQ(to_hex(bytes_of(encode_connect_request(*request))), to_hex(kCapturedRequest));
}

TEST(ConnectRequest, IgnoresMinorVersionCmBytesReservedBytesAndPadding) {
  auto bytes = kCapturedRequest;
  bytes[0] = bytes[1] = std::byte{0x55};  // the CM's on AF_IB
  bytes[4] = std::byte{0x63};             // version 2.99
  bytes[44] = std::byte{0xfe};            // unknown flags, not first_conn
  bytes[55] = std::byte{0xff};
  bytes.resize(196);
  const auto request = parse_connect_request(bytes);
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->first_conn);
}

TEST(ConnectRequest, RefusesWhatIsNotRtrs) {
  const auto error = [](ByteView bytes) { return parse_connect_request(bytes).error(); };
  EXPECT_EQ(error({}), Errc::not_rtrs_peer);
  EXPECT_EQ(error(ByteView(kCapturedRequest).first(55)), Errc::not_rtrs_peer);
  EXPECT_EQ(error(with_byte(kCapturedRequest, 2, 0xbc)), Errc::not_rtrs_peer);
  EXPECT_EQ(error(with_byte(kCapturedRequest, 5, 1)), Errc::version_mismatch);
  EXPECT_EQ(error(with_byte(kCapturedRequest, 5, 3)), Errc::version_mismatch);
}

TEST(ConnectRequest, RefusesConnectionNumbersOutOfRange) {
  const auto error = [](std::uint16_t cid, std::uint16_t cid_num) {
    const auto bytes = encode_connect_request({.cid = cid, .cid_num = cid_num});
    const auto request = parse_connect_request(bytes_of(bytes));
    return request ? std::error_code() : request.error();
  };
  EXPECT_EQ(error(0, 0), Errc::protocol_violation);
  EXPECT_EQ(error(3, 3), Errc::protocol_violation);
  EXPECT_EQ(error(65535, 3), Errc::protocol_violation);
  EXPECT_EQ(error(0, 4097), Errc::protocol_violation);
  EXPECT_EQ(error(2, 3), std::error_code());
  EXPECT_EQ(error(4095, 4096), std::error_code());
}

TEST(ConnectAccept, ParsesTheCapturedOneAndEncodesToTheSameBytes) {
  const auto accept = parse_connect_accept(kCapturedAccept, true);
  ASSERT_TRUE(accept);
  EXPECT_EQ(accept->queue_depth, 512);
  EXPECT_EQ(accept->max_io_size, 126976U);
  EXPECT_EQ(accept->max_hdr_size, 4096U);
  EXPECT_EQ(accept->chunk_size(), 131072U);
  EXPECT_TRUE(accept->new_rkey);
  EXPECT_EQ(to_hex(bytes_of(encode_connect_accept(*accept))), to_hex(kCapturedAccept));
}

TEST(ConnectAccept, TakesTheLengthIbPadsTo) {
  auto bytes = kCapturedAccept;
  bytes.resize(196);
  EXPECT_TRUE(parse_connect_accept(bytes, true));
}

TEST(ConnectAccept, RefusesForeignPeersAndErrors) {
  const auto error = [](ByteView bytes) { return parse_connect_accept(bytes, true).error(); };
  EXPECT_EQ(error(ByteView(kCapturedAccept).first(55)), Errc::not_rtrs_peer);
  EXPECT_EQ(error(with_byte(kCapturedAccept, 0, 0)), Errc::not_rtrs_peer);
  EXPECT_EQ(error(with_byte(kCapturedAccept, 3, 3)), Errc::version_mismatch);
  EXPECT_EQ(error(kCapturedReject), from_errno(ECONNRESET));
}

TEST(ConnectAccept, RefusesImpossibleSizesOnTheServiceConnectionOnly) {
  const auto refused = [](std::uint16_t depth, std::uint32_t io, std::uint32_t header) {
    const auto bytes = encode_connect_accept(
        {.queue_depth = depth, .max_io_size = io, .max_hdr_size = header, .new_rkey = false});
    EXPECT_TRUE(parse_connect_accept(bytes_of(bytes), false));
    const auto accept = parse_connect_accept(bytes_of(bytes), true);
    return !accept && accept.error() == Errc::bad_geometry;
  };
  EXPECT_TRUE(refused(0, 126976, 4096));
  EXPECT_TRUE(refused(512, 0, 4096));
  EXPECT_TRUE(refused(512, 1, 4096));
  EXPECT_TRUE(refused(512, 126976, 0));
  EXPECT_TRUE(refused(512, 126976, 287));
  EXPECT_TRUE(refused(512, 0xffffffff, 4096));  // the sum overflows 32 bits
  EXPECT_TRUE(refused(512, 126976, 0xffffffff));
  EXPECT_TRUE(refused(513, 520192, 4096));   // 10 + 19 bits
  EXPECT_FALSE(refused(512, 520192, 4096));  // 9 + 19 bits
  EXPECT_FALSE(refused(1, 126976, 65536));
  EXPECT_FALSE(refused(300, 61440, 4096));
}

TEST(ConnectReject, TellsTheErrnoOfTheCapturedOne) {
  EXPECT_EQ(parse_connect_reject(kCapturedReject), from_errno(ECONNRESET));
  EXPECT_EQ(to_hex(bytes_of(encode_connect_reject(ECONNRESET))), to_hex(kCapturedReject));
  EXPECT_EQ(parse_connect_reject(bytes_of(encode_connect_reject(ENXIO))), from_errno(ENXIO));
}

TEST(ConnectReject, IsNeverSuccess) {
  EXPECT_EQ(parse_connect_reject({}), Errc::connect_rejected);
  EXPECT_EQ(parse_connect_reject(ByteView(kCapturedReject).first(55)), Errc::connect_rejected);
  EXPECT_EQ(parse_connect_reject(from_hex("", 148)), Errc::connect_rejected);
  EXPECT_EQ(parse_connect_reject(kCapturedAccept), Errc::connect_rejected);
  EXPECT_EQ(parse_connect_reject(with_byte(kCapturedReject, 3, 3)), Errc::version_mismatch);
  EXPECT_EQ(parse_connect_reject(from_hex("bd 1b 00 02 68 00", 56)), from_errno(104));
  EXPECT_EQ(parse_connect_reject(from_hex("bd 1b 00 02 00 80", 56)), from_errno(4095));
}

TEST(Geometry, FitsTwentyEightBitsTogether) {
  EXPECT_TRUE(geometry_fits(512, 131072));
  EXPECT_TRUE(geometry_fits(512, 1U << 19));
  EXPECT_FALSE(geometry_fits(513, 1U << 19));
  EXPECT_FALSE(geometry_fits(512, (1U << 19) + 1));
  EXPECT_TRUE(geometry_fits(65535, 4096));
  EXPECT_FALSE(geometry_fits(65536, 4096));
  EXPECT_FALSE(geometry_fits(0, 131072));
  EXPECT_FALSE(geometry_fits(512, 0));
  EXPECT_FALSE(geometry_fits(1, std::uint64_t{1} << 33));
}

TEST(InfoRequest, CarriesTheNameAndNothingElse) {
  const auto bytes = encode_info_request("blya");
  EXPECT_EQ(to_hex(bytes_of(bytes)), to_hex(from_hex("00 00 62 6c 79 61", 272)));
  EXPECT_EQ(parse_info_request(bytes_of(bytes)), "blya");
}

TEST(InfoRequest, TakesTheLongestName) {
  const std::string name(254, 'x');
  EXPECT_EQ(parse_info_request(bytes_of(encode_info_request(name))), name);
}

TEST(InfoRequest, K17_RefusesNamesTheServerMustNotUse) {
  const auto refused = [](std::string_view name) {
    auto bytes = from_hex("", 272);
    std::memcpy(bytes.data() + 2, name.data(), name.size());
    const auto parsed = parse_info_request(bytes);
    return !valid_session_name(name) && !parsed && parsed.error() == Errc::protocol_violation;
  };
  EXPECT_TRUE(refused(""));
  EXPECT_TRUE(refused("a/b"));
  EXPECT_TRUE(refused("a.b"));
  EXPECT_TRUE(refused(".."));
  EXPECT_TRUE(refused(std::string(255, 'x')));  // not terminated
  EXPECT_FALSE(refused("client@server:1"));
}

TEST(InfoRequest, RefusesShortMessagesAndOtherTypes) {
  const auto good = copy_of(bytes_of(encode_info_request("blya")));
  EXPECT_FALSE(parse_info_request({}));
  EXPECT_FALSE(parse_info_request(ByteView(good).first(271)));
  EXPECT_FALSE(parse_info_request(with_byte(good, 0, 1)));
  EXPECT_FALSE(parse_info_request(with_byte(good, 1, 1)));
}

std::vector<Descriptor> regions_of(std::uint32_t count, std::uint32_t length) {
  std::vector<Descriptor> regions;
  for (std::uint32_t i = 0; i < count; ++i) {
    regions.push_back({.address = 0x1000000000 + std::uint64_t{i} * 0x10000000,
                       .key = 100 + i,
                       .length = length});
  }
  return regions;
}

TEST(InfoResponse, OneRegionPerChunkAsWithAlwaysInvalidate) {
  const auto bytes = encode_info_response(regions_of(512, 131072));
  EXPECT_EQ(bytes.size(), 8200U);
  EXPECT_EQ(to_hex(ByteView(bytes).first(24)),
            "01 00 00 02 00 00 00 00 00 00 00 00 10 00 00 00 64 00 00 00 00 00 02 00");
  const auto chunks = parse_info_response(bytes, kKernelLimits);
  ASSERT_TRUE(chunks);
  ASSERT_EQ(chunks->size(), 512U);
  EXPECT_EQ((*chunks)[511].address, 0x1000000000 + 511 * std::uint64_t{0x10000000});
  EXPECT_EQ((*chunks)[511].key, 611U);
}

TEST(InfoResponse, OneRegionForAllChunksAndFourOfThem) {
  const auto one =
      parse_info_response(encode_info_response(regions_of(1, 0x04000000)), kKernelLimits);
  ASSERT_TRUE(one);
  EXPECT_EQ((*one)[3].address, 0x1000000000 + 3 * 131072U);
  EXPECT_EQ((*one)[511].key, 100U);
  const auto four =
      parse_info_response(encode_info_response(regions_of(4, 0x01000000)), kKernelLimits);
  ASSERT_TRUE(four);
  EXPECT_EQ((*four)[128].address, 0x1010000000U);
  EXPECT_EQ((*four)[128].key, 101U);
}

TEST(InfoResponse, RegionsNeedNotBeEqual) {
  std::vector<Descriptor> regions = regions_of(2, 0);
  regions[0].length = 131072;
  regions[1].length = 511 * 131072;
  EXPECT_TRUE(parse_info_response(encode_info_response(regions), kKernelLimits));
}

TEST(InfoResponse, RefusesTablesThatDoNotAddUp) {
  const auto refused = [](std::span<const Descriptor> regions) {
    const auto chunks = parse_info_response(encode_info_response(regions), kKernelLimits);
    return !chunks && chunks.error() == Errc::protocol_violation;
  };
  auto uneven = regions_of(3, 131072);  // 512 % 3, though it adds up
  uneven[2].length = 510 * 131072;
  EXPECT_TRUE(refused(uneven));
  auto with_empty = regions_of(2, 0x04000000);
  with_empty[0].length = 0;
  EXPECT_TRUE(refused(with_empty));
  EXPECT_TRUE(refused(regions_of(1024, 131072)));  // more descriptors than chunks
  EXPECT_TRUE(refused(regions_of(512, 0)));
  EXPECT_TRUE(refused(regions_of(512, 131073)));
  EXPECT_TRUE(refused(regions_of(512, 65536)));
  EXPECT_TRUE(refused(regions_of(256, 131072)));     // too few chunks
  EXPECT_TRUE(refused(regions_of(512, 262144)));     // too many
  EXPECT_TRUE(refused(regions_of(64, 0x80000000)));  // the sum is 0 in 32 bits
  auto wraps = regions_of(1, 0x04000000);
  wraps[0].address = 0xffffffffff000000;
  EXPECT_TRUE(refused(wraps));
}

TEST(InfoResponse, RefusesShortMessagesAndOtherTypes) {
  const auto good = encode_info_response(regions_of(4, 0x01000000));
  EXPECT_FALSE(parse_info_response({}, kKernelLimits));
  EXPECT_FALSE(parse_info_response(ByteView(good).first(7), kKernelLimits));
  EXPECT_FALSE(parse_info_response(ByteView(good).first(8), kKernelLimits));
  EXPECT_FALSE(parse_info_response(ByteView(good).first(good.size() - 1), kKernelLimits));
  EXPECT_FALSE(parse_info_response(with_byte(good, 0, 0), kKernelLimits));
  EXPECT_FALSE(parse_info_response(with_byte(good, 2, 0), kKernelLimits));  // no descriptor
}

TEST(Immediate, SharesItsBitsAsTheQueueDepthSays) {
  const auto chunk_bits = [](std::uint32_t depth) { return RequestImmediate(depth).chunk_bits(); };
  EXPECT_EQ(chunk_bits(1), 0);
  EXPECT_EQ(chunk_bits(2), 1);
  EXPECT_EQ(chunk_bits(3), 2);
  EXPECT_EQ(chunk_bits(4), 2);
  EXPECT_EQ(chunk_bits(512), 9);
  EXPECT_EQ(chunk_bits(513), 10);
  EXPECT_EQ(chunk_bits(65535), 16);
  EXPECT_EQ(RequestImmediate(512).offset_bits(), 19);
}

TEST(Immediate, EncodesTheCapturedRequests) {
  const RequestImmediate layout(512);
  EXPECT_EQ(layout.encode(1, 4096 + 32), 0x00081020U);  // read of 4096 in chunk 1
  EXPECT_EQ(layout.encode(0, 4096 + 32), 0x00001020U);  // write of 4096
  EXPECT_EQ(layout.encode(0, 8), 0x00000008U);          // CLOSE
  EXPECT_EQ(layout.encode(0, 72), 0x00000048U);         // SESS_INFO
}

TEST(Immediate, DecodesWhatItEncodes) {
  for (const std::uint32_t depth : {1U, 2U, 3U, 300U, 512U, 513U, 65535U}) {
    const RequestImmediate layout(depth);
    const std::uint32_t offset = (1U << layout.offset_bits()) - 1;
    const auto immediate = layout.encode(depth - 1, offset);
    EXPECT_EQ(immediate_type(immediate), ImmediateType::io_request);
    EXPECT_EQ(layout.decode(immediate).chunk, depth - 1);
    EXPECT_EQ(layout.decode(immediate).offset, offset);
  }
}

TEST(Immediate, DecodesTheCapturedResponses) {
  const auto expect = [](std::uint32_t immediate, ImmediateType type, std::uint32_t id, int error) {
    EXPECT_EQ(immediate_type(immediate), type);
    EXPECT_EQ(decode_response(immediate).id, id);
    EXPECT_EQ(decode_response(immediate).error, error);
    EXPECT_EQ(encode_response(id, error, type == ImmediateType::io_response_invalidated),
              immediate);
  };
  expect(0x10000005, ImmediateType::io_response, 5, 0);
  expect(0x10100005, ImmediateType::io_response, 5, ENOENT);
  expect(0x10b00009, ImmediateType::io_response, 9, EINVAL);
  expect(0x13580009, ImmediateType::io_response, 9, ENOTCONN);
  expect(0x20000001, ImmediateType::io_response_invalidated, 1, 0);
  expect(0x20100000, ImmediateType::io_response_invalidated, 0, ENOENT);
}

TEST(Immediate, NeverTurnsAnErrorIntoSuccess) {
  EXPECT_EQ(decode_response(encode_response(7, 511)).error, 511);
  EXPECT_EQ(decode_response(encode_response(7, 512)).error, EIO);  // 512 is 0 in 9 bits
  EXPECT_EQ(decode_response(encode_response(7, -22)).error, EIO);
}

TEST(Immediate, KnowsHeartbeats) {
  EXPECT_EQ(immediate_type(kHeartbeatImmediate), ImmediateType::heartbeat);
  EXPECT_EQ(immediate_type(kHeartbeatAckImmediate), ImmediateType::heartbeat_ack);
}

// ---- Requests inside a chunk ----

constexpr std::uint32_t kUsrLenMax = 4096;
// The RTRS read message of a captured SESS_INFO.
const auto kCapturedRead =
    from_hex("03 00 24 00 01 00 01 00 | 00 95 86 06 00 00 11 ff | 8c 03 00 00 | 24 00 00 00");

bool refused(ByteView header, std::uint32_t offset, std::uint32_t usr_len_max = kUsrLenMax) {
  const auto request = parse_io_request(header, offset, usr_len_max);
  return !request && request.error() == Errc::protocol_violation;
}

TEST(IoRequest, ParsesTheCapturedSessInfoRead) {
  const auto request = parse_io_request(kCapturedRead, 72, kUsrLenMax);
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->read);
  EXPECT_EQ(request->usr_len, 36);
  EXPECT_EQ(request->data_length, 36U);
  EXPECT_TRUE(request->has_target);
  EXPECT_TRUE(request->need_invalidate);
  EXPECT_EQ(request->target.address, 0xff11000006869500U);
  EXPECT_EQ(request->target.key, 0x38cU);
  EXPECT_EQ(request->target.length, 36U);
}

TEST(IoRequest, EncodesTheCapturedRead) {
  const auto read =
      encode_read(36, {.address = 0xff11000006869500, .key = 0x38c, .length = 36}, true);
  EXPECT_EQ(to_hex(read.view()), to_hex(kCapturedRead));
}

TEST(IoRequest, ParsesAReadWithoutDataAsAFlushIs) {
  const auto bytes = encode_read(32);
  EXPECT_EQ(to_hex(bytes.view()), "03 00 20 00 00 00 00 00");
  const auto request = parse_io_request(bytes.view(), 32, kUsrLenMax);
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->read);
  EXPECT_FALSE(request->has_target);
  EXPECT_EQ(request->data_length, 0U);
}

TEST(IoRequest, NeedsNoInvalidationWithoutATarget) {
  const auto request = parse_io_request(from_hex("03 00 20 00 01 00 00 00"), 32, kUsrLenMax);
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->need_invalidate);
}

TEST(IoRequest, ParsesWrites) {
  const auto message = encode_write(32);
  EXPECT_EQ(to_hex(bytes_of(message)), "02 00 20 00");
  const auto request = parse_io_request(bytes_of(message), 4096 + 32, kUsrLenMax);
  ASSERT_TRUE(request);
  EXPECT_FALSE(request->read);
  EXPECT_EQ(request->usr_len, 32);
  EXPECT_EQ(request->data_length, 4096U);
}

TEST(IoRequest, K2_UserMessageNeverStartsBeforeTheChunk) {
  constexpr std::uint32_t kOffset = 100;
  for (const std::uint16_t usr_len : std::initializer_list<std::uint16_t>{0, 99, 100}) {
    const auto request = parse_io_request(bytes_of(encode_write(usr_len)), kOffset, kUsrLenMax);
    ASSERT_TRUE(request) << usr_len;
    EXPECT_EQ(request->data_length + request->usr_len, kOffset);
  }
  EXPECT_TRUE(refused(bytes_of(encode_write(101)), kOffset));
  EXPECT_TRUE(refused(bytes_of(encode_write(65535)), kOffset));
  EXPECT_TRUE(refused(encode_read(65535).view(), kOffset));
  EXPECT_TRUE(refused(bytes_of(encode_write(1)), 0));
}

TEST(IoRequest, RefusesUserMessagesLongerThanTheHeaderArea) {
  EXPECT_FALSE(refused(bytes_of(encode_write(4096)), 8192));
  EXPECT_TRUE(refused(bytes_of(encode_write(4097)), 8192));
}

TEST(IoRequest, RefusesHeadersThatRunPastTheChunk) {
  EXPECT_TRUE(refused({}, 100));
  EXPECT_TRUE(refused(ByteView(kCapturedRead).first(3), 100));
  EXPECT_TRUE(refused(ByteView(kCapturedRead).first(7), 100));
  EXPECT_TRUE(refused(ByteView(kCapturedRead).first(8), 100));
  EXPECT_TRUE(refused(ByteView(kCapturedRead).first(23), 100));
  EXPECT_FALSE(refused(kCapturedRead, 100));
}

TEST(IoRequest, RefusesOtherTypes) {
  for (const unsigned type : {0U, 1U, 4U, 5U, 255U}) {
    EXPECT_TRUE(refused(with_byte(kCapturedRead, 0, type), 100)) << type;
  }
  EXPECT_TRUE(refused(with_byte(kCapturedRead, 1, 3), 100));
}

bool bad_target(ByteView header, std::uint32_t offset) {
  const auto request = parse_io_request(header, offset, kUsrLenMax);
  EXPECT_TRUE(request);
  return request && request->bad_target && !request->has_target && !request->need_invalidate;
}

TEST(IoRequest, TakesEveryDescriptorCountButNoneAndOneForABadTarget) {
  EXPECT_TRUE(bad_target(with_byte(kCapturedRead, 6, 2), 100));
  EXPECT_TRUE(bad_target(with_byte(with_byte(kCapturedRead, 6, 0), 7, 1), 100));  // byte-swapped
  EXPECT_TRUE(bad_target(with_byte(with_byte(kCapturedRead, 6, 0xff), 7, 0xff), 100));
}

TEST(IoRequest, K1_TargetIsNeverLongerThanTheRoomNorEmpty) {
  const auto target = [](std::uint32_t length) {
    return encode_read(32, {.address = 1, .key = 1, .length = length}, true);
  };
  for (const std::uint32_t length : {0U, 4097U, 131072U, 131073U, 0x80000000U, 0xffffffffU}) {
    EXPECT_TRUE(bad_target(target(length).view(), 4096 + 32)) << length;
  }
  for (const std::uint32_t length : {1U, 4095U, 4096U}) {
    EXPECT_FALSE(bad_target(target(length).view(), 4096 + 32)) << length;
  }
}

TEST(Extension, GoesBehindTheAcceptWhereKernelsDoNotLook) {
  const Extension extension{.features = kFeatureFence, .instance = {1, 2}, .boot = {3, 4}};
  const auto accept = encode_connect_accept(
      {.queue_depth = 16, .max_io_size = 65536, .max_hdr_size = 4096, .new_rkey = false});
  std::vector<std::byte> bytes(bytes_of(accept).begin(), bytes_of(accept).end());
  EXPECT_FALSE(parse_extension(bytes));
  const auto encoded = encode_extension(extension);
  bytes.insert(bytes.end(), bytes_of(encoded).begin(), bytes_of(encoded).end());
  EXPECT_EQ(parse_extension(bytes), extension);
  EXPECT_TRUE(parse_connect_accept(bytes, true));
  bytes.resize(bytes.size() + 92);  // as the padding of InfiniBand makes it
  EXPECT_EQ(parse_extension(bytes), extension);
  for (std::size_t size = 0; size < bytes_of(accept).size() + sizeof(layout::Extension); ++size) {
    EXPECT_FALSE(parse_extension(ByteView(bytes).first(size))) << size;
  }
  bytes[bytes_of(accept).size()] = std::byte{'R'};
  EXPECT_FALSE(parse_extension(bytes));
}

TEST(Control, TravelsInAChunkAndCarriesNothingElse) {
  const Control fence{.kind = ControlKind::fence, .recon_cnt = 7, .path = {9, 8}};
  const auto message = encode_control(fence);
  const auto request = parse_io_request(bytes_of(message), 0, kUsrLenMax);
  ASSERT_TRUE(request);
  EXPECT_TRUE(request->control);
  EXPECT_EQ(request->data_length, 0U);
  const auto control = parse_control(bytes_of(message));
  ASSERT_TRUE(control);
  EXPECT_EQ(control->kind, ControlKind::fence);
  EXPECT_EQ(control->recon_cnt, 7);
  EXPECT_EQ(control->path, fence.path);
  const std::vector<std::byte> bytes(bytes_of(message).begin(), bytes_of(message).end());
  EXPECT_TRUE(refused(bytes, 4));
  EXPECT_TRUE(refused(ByteView(bytes).first(23), 0));
  EXPECT_TRUE(refused(with_byte(bytes, 2, 1), 0));  // a user message
  EXPECT_EQ(parse_control(with_byte(bytes, 4, 3)).error(), from_errno(EOPNOTSUPP));
}

TEST(RkeyResponse, ParsesTheCapturedOne) {
  const auto bytes = from_hex("04 00 00 00 ff 03 00 00");
  EXPECT_EQ(parse_rkey_response(bytes, 0), 0x3ffU);
  EXPECT_EQ(to_hex(bytes_of(encode_rkey_response(0, 0x3ff))), to_hex(bytes));
}

TEST(RkeyResponse, MustBeOfTheChunkTheImmediateNames) {
  const auto bytes = from_hex("04 00 05 00 ff 03 00 00");
  EXPECT_EQ(parse_rkey_response(bytes, 5), 0x3ffU);
  EXPECT_EQ(parse_rkey_response(bytes, 4).error(), Errc::protocol_violation);
  EXPECT_EQ(parse_rkey_response(bytes, 0x10005).error(), Errc::protocol_violation);
  EXPECT_EQ(parse_rkey_response(ByteView(bytes).first(7), 5).error(), Errc::protocol_violation);
  EXPECT_EQ(parse_rkey_response(with_byte(bytes, 0, 1), 5).error(), Errc::protocol_violation);
}

}  // namespace
}  // namespace rnbd::wire
