// The tables of the RNBD messages against captures of Linux 6.12, and every malformation refused.

#include "wire/rnbd.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "wire/testing/hex.h"

namespace rnbd::wire {
namespace {

using test::from_hex;
using test::to_hex;

template <class T>
T parsed(ByteView bytes) {
  const auto message = parse_rnbd_message(bytes);
  EXPECT_TRUE(message);
  EXPECT_TRUE(message && std::holds_alternative<T>(*message));
  return message && std::holds_alternative<T>(*message) ? std::get<T>(*message) : T{};
}

std::error_code error_of(ByteView bytes) {
  const auto message = parse_rnbd_message(bytes);
  return message ? std::error_code() : message.error();
}

const auto kCapturedOpen = from_hex("02 00 00 00 01 00 2f 64 65 76 2f 6e 75 6c 6c 62 30 00", 264);
const auto kCapturedOpenResponse = from_hex(
    "03 00 00 00 | 00 00 00 00 | 00 00 02 00 00 00 00 00 | ff 00 00 00 | 00 00 00 00 |"
    "ff ff 7f 00 | 00 02 00 00 | 00 00 00 00 | 00 02 | 00 02 | 80 00 | 00 00 | 00 | 03",
    56);
const auto kCapturedIo = from_hex(
    "04 00 00 00 | 00 00 00 00 | 00 00 00 00 00 00 00 00 | 00 01 00 00 | 00 10 00 00 |"
    "04 40 | 00 00 00 00 00 00");

TEST(SessionInfo, IsThirtySixBytesWithTheVersion) {
  const auto bytes = encode(SessionInfo{});
  EXPECT_EQ(to_hex(bytes_of(bytes)), to_hex(from_hex("00 00 00 00 02", 36)));
  EXPECT_EQ(parsed<SessionInfo>(bytes_of(bytes)).version, 2);
}

TEST(SessionInfo, AnswersWithTheSmallerVersion) {
  const auto answer = encode_session_info_response(2);
  EXPECT_EQ(to_hex(bytes_of(answer)), to_hex(from_hex("01 00 00 00 02", 36)));
  EXPECT_EQ(parse_session_info_response(bytes_of(answer)), 2);
  EXPECT_EQ(parse_session_info_response(bytes_of(encode_session_info_response(1))), 1);
  EXPECT_EQ(parse_session_info_response(bytes_of(encode_session_info_response(9))), 2);
}

TEST(SessionInfo, RefusesAnswersThatSayNothing) {
  EXPECT_EQ(parse_session_info_response(bytes_of(encode_session_info_response(0))).error(),
            Errc::protocol_violation);
  EXPECT_EQ(parse_session_info_response(from_hex("01 00 00 00 02", 35)).error(),
            Errc::protocol_violation);
}

TEST(Open, ParsesTheCapturedOneAndEncodesToTheSameBytes) {
  const auto open = parsed<Open>(kCapturedOpen);
  EXPECT_EQ(open.access_mode, AccessMode::rw);
  EXPECT_EQ(open.device_name, "/dev/nullb0");
  EXPECT_EQ(to_hex(bytes_of(encode(open))), to_hex(kCapturedOpen));
}

TEST(Open, IgnoresWhatStandsBehindTheName) {
  auto bytes = kCapturedOpen;
  bytes[1 + 2] = bytes[5] = std::byte{0xaa};
  for (std::size_t i = 6 + 12; i < bytes.size(); ++i) bytes[i] = std::byte{0xaa};
  EXPECT_EQ(parsed<Open>(bytes).device_name, "/dev/nullb0");
}

TEST(Open, K8_NamesAreOneToTwoHundredFiftyFourBytesAndTerminated) {
  const auto error = [](std::size_t length) {
    auto bytes = from_hex("02 00 00 00 01 00", 264);
    std::fill_n(bytes.begin() + 6, length, std::byte{'x'});
    return error_of(bytes);
  };
  EXPECT_EQ(error(0), from_errno(EINVAL));
  EXPECT_EQ(error(1), std::error_code());
  EXPECT_EQ(error(254), std::error_code());
  EXPECT_EQ(error(255), from_errno(EINVAL));
  EXPECT_EQ(error(258), from_errno(EINVAL));
  EXPECT_TRUE(valid_device_name(std::string(254, 'x')));
  EXPECT_FALSE(valid_device_name(std::string(255, 'x')));
  EXPECT_FALSE(valid_device_name(""));
  EXPECT_FALSE(valid_device_name(std::string_view("a\0b", 3)));
}

TEST(Open, RefusesUnknownAccessModes) {
  for (const unsigned mode : {0U, 1U, 2U}) {
    auto bytes = kCapturedOpen;
    bytes[4] = static_cast<std::byte>(mode);
    EXPECT_EQ(parsed<Open>(bytes).access_mode, static_cast<AccessMode>(mode));
  }
  for (const unsigned mode : {3U, 255U}) {
    auto bytes = kCapturedOpen;
    bytes[4] = static_cast<std::byte>(mode);
    EXPECT_EQ(error_of(bytes), from_errno(EINVAL));
  }
}

TEST(Io, ParsesTheCapturedReadAndEncodesToTheSameBytes) {
  const auto io = parsed<Io>(kCapturedIo);
  EXPECT_EQ(io.device_id, 0U);
  EXPECT_EQ(io.op, IoOp::read);
  EXPECT_EQ(io.flags, kIoSync);
  EXPECT_EQ(io.sector, 0U);
  EXPECT_EQ(io.length, 4096U);
  EXPECT_EQ(io.priority, 0x4004);
  EXPECT_EQ(to_hex(bytes_of(encode(io))), to_hex(kCapturedIo));
}

TEST(Io, PutsEveryFieldInItsPlace) {
  const auto bytes = encode(Io{.device_id = 0xabcd0001,
                               .op = IoOp::write,
                               .flags = kIoSync | kIoFua,
                               .sector = 0x1122334455667788,
                               .length = 0x1000,
                               .priority = 0x4004});
  EXPECT_EQ(to_hex(bytes_of(bytes)),
            to_hex(from_hex("04 00 00 00 01 00 cd ab 88 77 66 55 44 33 22 11 01 03 00 00"
                            "00 10 00 00 04 40 00 00 00 00 00 00")));
}

TEST(Io, TakesTheTwentyFourBytesOfVersionOneWithoutPriority) {
  const auto io = parsed<Io>(ByteView(kCapturedIo).first(24));
  EXPECT_EQ(io.length, 4096U);
  EXPECT_EQ(io.priority, 0);
  EXPECT_EQ(parsed<Io>(ByteView(kCapturedIo).first(31)).priority, 0);
}

TEST(Io, KnowsTheFlagWordsSeenOnTheWire) {
  const auto io = [](unsigned low, unsigned high) {
    auto bytes = kCapturedIo;
    bytes[16] = static_cast<std::byte>(low);
    bytes[17] = static_cast<std::byte>(high);
    return parsed<Io>(bytes);
  };
  EXPECT_EQ(io(1, 0).op, IoOp::write);
  EXPECT_EQ(io(1, 3).flags, kIoSync | kIoFua);
  EXPECT_EQ(io(2, 3).op, IoOp::flush);
  EXPECT_EQ(io(3, 1).op, IoOp::discard);
  EXPECT_EQ(io(4, 1).op, IoOp::secure_erase);
  EXPECT_EQ(io(5, 1).op, IoOp::write_zeroes);
  EXPECT_EQ(io(1, 6).flags, kIoFua | kIoPreflush);
  EXPECT_EQ(io(5, 8).flags, kIoNoUnmap);
}

TEST(Io, RefusesOperationsThatDoNotExist) {
  for (const unsigned op : {6U, 7U, 255U}) {
    auto bytes = kCapturedIo;
    bytes[16] = static_cast<std::byte>(op);
    EXPECT_EQ(error_of(bytes), from_errno(EOPNOTSUPP));
  }
}

TEST(Close, IsEightBytes) {
  const auto bytes = encode(Close{.device_id = 0xabcd0001});
  EXPECT_EQ(to_hex(bytes_of(bytes)), "05 00 00 00 01 00 cd ab");
  EXPECT_EQ(parsed<Close>(bytes_of(bytes)).device_id, 0xabcd0001U);
}

TEST(Message, RefusesWhatIsShorterThanItsType) {
  EXPECT_EQ(error_of({}), from_errno(EINVAL));
  EXPECT_EQ(error_of(from_hex("04 00 00")), from_errno(EINVAL));
  EXPECT_EQ(error_of(from_hex("00 00 00 00 02", 35)), from_errno(EINVAL));
  EXPECT_EQ(error_of(ByteView(kCapturedOpen).first(263)), from_errno(EINVAL));
  EXPECT_EQ(error_of(ByteView(kCapturedIo).first(23)), from_errno(EINVAL));
  EXPECT_EQ(error_of(from_hex("05 00 00 00 00 00 00")), from_errno(EINVAL));
}

TEST(Message, RefusesUnknownTypesAndAnswers) {
  EXPECT_EQ(error_of(from_hex("09 00 00 00", 264)), from_errno(EINVAL));
  EXPECT_EQ(error_of(from_hex("01 00 00 00", 264)), from_errno(EINVAL));
  EXPECT_EQ(error_of(from_hex("03 00 00 00", 264)), from_errno(EINVAL));
  EXPECT_EQ(error_of(from_hex("00 04 00 00", 264)), from_errno(EINVAL));
}

TEST(Message, MayBeLongerThanItsTypeNeeds) {
  EXPECT_EQ(error_of(from_hex("05 00 00 00", 264)), std::error_code());
}

// ---- How an IO was carried ----

std::error_code check(IoOp op, std::uint32_t length, Carriage carriage) {
  return check_io(Io{.op = op, .length = length}, carriage);
}
constexpr Carriage read_of(std::uint32_t length) { return {true, length, length}; }
constexpr Carriage write_of(std::uint32_t length) { return {false, length, 0}; }
const std::error_code kFine;
const std::error_code kInvalid = from_errno(EINVAL);
const std::error_code kUnsupported = from_errno(EOPNOTSUPP);

TEST(Carriage, AcceptsWhatKernelClientsSend) {
  EXPECT_EQ(check(IoOp::read, 4096, read_of(4096)), kFine);
  EXPECT_EQ(check(IoOp::write, 4096, write_of(4096)), kFine);
  EXPECT_EQ(check(IoOp::flush, 0, read_of(0)), kFine);
  EXPECT_EQ(check(IoOp::discard, 1U << 30, write_of(0)), kFine);
  EXPECT_EQ(check(IoOp::secure_erase, 4096, write_of(0)), kFine);
  EXPECT_EQ(check(IoOp::write_zeroes, 0xfffffe00, write_of(0)), kFine);
  EXPECT_EQ(check(IoOp::write, 0, write_of(0)), kFine);  // an empty write is a no-op
}

TEST(Carriage, DataIsExactlyAsLongAsTheOperation) {
  EXPECT_EQ(check(IoOp::read, 4096, read_of(8192)), kInvalid);
  EXPECT_EQ(check(IoOp::read, 8192, read_of(4096)), kInvalid);
  EXPECT_EQ(check(IoOp::read, 4096, read_of(0)), kInvalid);
  EXPECT_EQ(check(IoOp::read, 4096, {true, 4096, 2048}), kInvalid);
  EXPECT_EQ(check(IoOp::read, 4096, {true, 4096, 0}), kInvalid);
  EXPECT_EQ(check(IoOp::read, 4096, {true, 8192, 4096}), kInvalid);
  EXPECT_EQ(check(IoOp::write, 4096, write_of(512)), kInvalid);
  EXPECT_EQ(check(IoOp::write, 4096, write_of(0)), kInvalid);
  EXPECT_EQ(check(IoOp::write, 0, write_of(4096)), kInvalid);
}

TEST(Carriage, DataMovesTheWayOfTheOperation) {
  EXPECT_EQ(check(IoOp::write, 4096, read_of(4096)), kInvalid);  // nobody wrote that room
  EXPECT_EQ(check(IoOp::read, 4096, write_of(4096)), kInvalid);
  EXPECT_EQ(check(IoOp::read, 0, write_of(0)), kInvalid);
}

TEST(Carriage, K24_OperationsWithoutDataCarryNone) {
  EXPECT_EQ(check(IoOp::flush, 0, read_of(512)), kInvalid);
  EXPECT_EQ(check(IoOp::flush, 0, write_of(512)), kInvalid);
  EXPECT_EQ(check(IoOp::flush, 0, {true, 0, 512}), kInvalid);
  EXPECT_EQ(check(IoOp::discard, 4096, write_of(4096)), kInvalid);
  EXPECT_EQ(check(IoOp::secure_erase, 4096, write_of(512)), kInvalid);
}

TEST(Carriage, WriteZeroesWithDataIsTheWriteSameOfOldKernels) {
  EXPECT_EQ(check(IoOp::write_zeroes, 1U << 20, write_of(512)), kUnsupported);
}

// ---- Answers ----

TEST(OpenResponse, ParsesTheCapturedOneAndEncodesToTheSameBytes) {
  const auto response = parse_open_response(kCapturedOpenResponse);
  ASSERT_TRUE(response);
  EXPECT_EQ(response->device_id, 0U);
  EXPECT_EQ(response->nsectors, 131072U);
  EXPECT_EQ(response->max_hw_sectors, 255U);
  EXPECT_EQ(response->max_write_zeroes_sectors, 0U);
  EXPECT_EQ(response->max_discard_sectors, 0x7fffffU);
  EXPECT_EQ(response->discard_granularity, 512U);
  EXPECT_EQ(response->physical_block_size, 512);
  EXPECT_EQ(response->logical_block_size, 512);
  EXPECT_EQ(response->max_segments, 128);
  EXPECT_EQ(response->secure_discard, 0);
  EXPECT_EQ(response->cache_policy, kCacheFua | kCacheWriteBack);
  EXPECT_EQ(to_hex(bytes_of(encode(*response))), to_hex(kCapturedOpenResponse));
}

TEST(OpenResponse, PutsEveryFieldInItsPlace) {
  const auto bytes = encode(OpenResponse{.device_id = 0xabcd0001,
                                         .nsectors = 0x0000112233445566,
                                         .max_hw_sectors = 1,
                                         .max_write_zeroes_sectors = 2,
                                         .max_discard_sectors = 3,
                                         .discard_granularity = 4,
                                         .discard_alignment = 5,
                                         .physical_block_size = 8192,
                                         .logical_block_size = 4096,
                                         .max_segments = 6,
                                         .secure_discard = 7,
                                         .cache_policy = 2});
  EXPECT_EQ(
      to_hex(bytes_of(bytes)),
      to_hex(from_hex("03 00 00 00 01 00 cd ab 66 55 44 33 22 11 00 00 01 00 00 00 02 00 00 00"
                      "03 00 00 00 04 00 00 00 05 00 00 00 00 20 00 10 06 00 07 00 00 02",
                      56)));
}

std::error_code geometry_error(OpenResponse response) {
  const auto result = parse_open_response(bytes_of(encode(response)));
  return result ? std::error_code() : result.error();
}

TEST(OpenResponse, RefusesBlockSizesNoDeviceHas) {
  for (const std::uint16_t size :
       std::initializer_list<std::uint16_t>{0, 1, 256, 511, 513, 3072, 65535}) {
    EXPECT_EQ(geometry_error({.nsectors = 0, .logical_block_size = size}), Errc::bad_geometry)
        << size;
  }
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{512, 4096, 32768}) {
    EXPECT_EQ(geometry_error({.nsectors = 64, .logical_block_size = size}), kFine) << size;
  }
}

TEST(OpenResponse, RefusesSizesOutsideTheOffsetsOfAFile) {
  constexpr std::uint64_t kMost = (std::uint64_t{1} << 54) - 1;
  EXPECT_EQ(geometry_error({.nsectors = kMost}), kFine);
  EXPECT_EQ(geometry_error({.nsectors = kMost + 1}), Errc::bad_geometry);
  EXPECT_EQ(geometry_error({.nsectors = ~std::uint64_t{0}}), Errc::bad_geometry);
  EXPECT_EQ(geometry_error({.nsectors = 7, .logical_block_size = 4096}), Errc::bad_geometry);
  EXPECT_EQ(geometry_error({.nsectors = 0}), kFine);
}

TEST(OpenResponse, RepairsAPhysicalBlockSizeThatMakesNoSense) {
  for (const std::uint16_t size : std::initializer_list<std::uint16_t>{0, 512, 4095, 5000}) {
    const auto bytes = encode(
        OpenResponse{.nsectors = 8, .physical_block_size = size, .logical_block_size = 4096});
    const auto response = parse_open_response(bytes_of(bytes));
    ASSERT_TRUE(response);
    EXPECT_EQ(response->physical_block_size, 4096);
  }
}

TEST(OpenResponse, RefusesShortAnswersAndOtherTypes) {
  EXPECT_EQ(parse_open_response(ByteView(kCapturedOpenResponse).first(55)).error(),
            Errc::protocol_violation);
  auto bytes = kCapturedOpenResponse;
  bytes[0] = std::byte{2};
  EXPECT_EQ(parse_open_response(bytes).error(), Errc::protocol_violation);
}

}  // namespace
}  // namespace rnbd::wire
