// The NBD codecs byte for byte, and every malformation refused.

#include "wire/nbd.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "wire/testing/hex.h"

namespace rnbd::wire {
namespace {

using test::from_hex;
using test::to_hex;

TEST(NbdGreeting, OffersFixedNewstyleWithoutZeroes) {
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_greeting())),
            "4e 42 44 4d 41 47 49 43 49 48 41 56 45 4f 50 54 00 03");
}

TEST(NbdGreeting, ClientMustTakeFixedNewstyleAndNothingUnoffered) {
  EXPECT_TRUE(parse_nbd_client_flags(from_hex("00 00 00 03"))->no_zeroes);
  EXPECT_FALSE(parse_nbd_client_flags(from_hex("00 00 00 01"))->no_zeroes);
  for (const auto* bytes :
       {"", "00 00 00", "00 00 00 00", "00 00 00 02", "00 00 00 05", "80 00 00 01"}) {
    EXPECT_EQ(parse_nbd_client_flags(from_hex(bytes)).error(), Errc::protocol_violation) << bytes;
  }
}

TEST(NbdOption, ParsesItsHeader) {
  const auto header =
      parse_nbd_option_header(from_hex("49 48 41 56 45 4f 50 54 00 00 00 07 00 00 00 0a"));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->option, NbdOption::go);
  EXPECT_EQ(header->length, 10U);
}

TEST(NbdOption, RefusesALostStream) {
  const auto good = from_hex("49 48 41 56 45 4f 50 54 00 00 00 07 00 00 00 0a");
  EXPECT_EQ(parse_nbd_option_header(ByteView(good).first(15)).error(), Errc::protocol_violation);
  auto wrong = good;
  wrong[7] = std::byte{0};
  EXPECT_EQ(parse_nbd_option_header(wrong).error(), Errc::protocol_violation);
}

TEST(NbdInfo, ParsesNameAndWishes) {
  const auto bytes = from_hex("00 00 00 03 | 76 6f 6c | 00 02 | 00 03 | 00 01");
  const auto request = parse_nbd_info_request(bytes);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->name, "vol");
  EXPECT_TRUE(request->wants(NbdInfo::block_size));
  EXPECT_TRUE(request->wants(NbdInfo::name));
  EXPECT_FALSE(request->wants(NbdInfo::description));
}

TEST(NbdInfo, TakesTheDefaultExportAndUnknownWishes) {
  const auto request = parse_nbd_info_request(from_hex("00 00 00 00 | 00 01 | 12 34"));
  ASSERT_TRUE(request);
  EXPECT_EQ(request->name, "");
  EXPECT_EQ(request->wanted.size(), 1U);
  EXPECT_TRUE(parse_nbd_info_request(from_hex("00 00 00 00 | 00 00")));
}

TEST(NbdInfo, RefusesLengthsThatDisagree) {
  for (const auto* bytes : {
           "", "00 00 00", "00 00 00 00", "00 00 00 00 00",
           "00 00 00 04 | 76 6f 6c",                  // name longer than the data
           "00 00 00 03 | 76 6f 6c | 00",             // half a count
           "00 00 00 03 | 76 6f 6c | 00 01",          // a wish missing
           "00 00 00 03 | 76 6f 6c | 00 01 | 00",     // half a wish
           "00 00 00 03 | 76 6f 6c | 00 00 | 00 03",  // more than it says
           "00 00 00 03 | 76 00 6c | 00 00",          // NUL in the name
       }) {
    EXPECT_EQ(parse_nbd_info_request(from_hex(bytes)).error(), Errc::protocol_violation) << bytes;
  }
  EXPECT_TRUE(
      parse_nbd_info_request(from_hex("00 00 10 00" + std::string(2 * 4096, '7') + "00 00")));
  EXPECT_EQ(parse_nbd_info_request(from_hex("ff ff ff ff | 00 00")).error(), Errc::too_long);
  EXPECT_EQ(parse_nbd_info_request(from_hex("00 00 10 01", 8192)).error(), Errc::too_long);
}

TEST(NbdExportName, IsTheWholeData) {
  EXPECT_EQ(parse_nbd_export_name(from_hex("76 6f 6c")), "vol");
  EXPECT_EQ(parse_nbd_export_name({}), "");
  EXPECT_EQ(parse_nbd_export_name(from_hex("76 00")).error(), Errc::protocol_violation);
  EXPECT_TRUE(parse_nbd_export_name(std::vector<std::byte>(4096, std::byte{'x'})));
  EXPECT_EQ(parse_nbd_export_name(std::vector<std::byte>(4097, std::byte{'x'})).error(),
            Errc::too_long);
}

TEST(NbdOptionReply, HasTwentyBytesOfHeader) {
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_option_reply(NbdOption::go, NbdOptionReply::info, 12))),
            "00 03 e8 89 04 55 65 a9 00 00 00 07 00 00 00 03 00 00 00 0c");
  EXPECT_EQ(to_hex(bytes_of(
                encode_nbd_option_reply(NbdOption::starttls, NbdOptionReply::error_unsupported))),
            "00 03 e8 89 04 55 65 a9 00 00 00 05 80 00 00 01 00 00 00 00");
}

TEST(NbdOptionReply, DescribesTheExport) {
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_info_export(0x4000000, kNbdHasFlags | kNbdSendFlush))),
            "00 00 00 00 00 00 04 00 00 00 00 05");
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_info_block_size(512, 4096, 33554432))),
            "00 03 00 00 02 00 00 00 10 00 02 00 00 00");
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_export_name(0x4000000, kNbdHasFlags))),
            "00 00 00 00 04 00 00 00 00 01");
}

const auto kRead = from_hex(
    "25 60 95 13 | 00 04 | 00 00 | 11 22 33 44 55 66 77 88 | 00 00 00 00 00 01 00 00 | 00 00 10 "
    "00");

TEST(NbdRequest, ParsesAllFields) {
  const auto request = parse_nbd_request(kRead);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->command, NbdCommand::read);
  EXPECT_EQ(request->flags, kNbdCommandDf);
  EXPECT_EQ(request->cookie, 0x1122334455667788U);
  EXPECT_EQ(request->offset, 0x10000U);
  EXPECT_EQ(request->length, 4096U);
}

TEST(NbdRequest, RefusesALostStream) {
  EXPECT_EQ(parse_nbd_request(ByteView(kRead).first(27)).error(), Errc::protocol_violation);
  auto wrong = kRead;
  wrong[0] = std::byte{0x26};
  EXPECT_EQ(parse_nbd_request(wrong).error(), Errc::protocol_violation);
}

constexpr std::uint16_t kEverything = 0x0fed;  // all but read-only
constexpr NbdExport kExport{
    .size = 1 << 20, .flags = kEverything, .block_size_min = 512, .payload_max = 65536};

std::error_code check(NbdCommand command, std::uint64_t offset, std::uint32_t length,
                      std::uint16_t flags = 0, NbdExport on = kExport) {
  return check_nbd_request(
      {.command = command, .flags = flags, .cookie = 1, .offset = offset, .length = length}, on);
}
const std::error_code kFine;
const std::error_code kInvalid = from_errno(EINVAL);

TEST(NbdCheck, AcceptsWhatWasAnnounced) {
  EXPECT_EQ(check(NbdCommand::read, 0, 65536, kNbdCommandDf), kFine);
  EXPECT_EQ(check(NbdCommand::write, (1 << 20) - 512, 512, kNbdCommandFua), kFine);
  EXPECT_EQ(check(NbdCommand::flush, 12345, 1), kFine);
  EXPECT_EQ(check(NbdCommand::trim, 0, 1 << 20, kNbdCommandFua), kFine);  // no payload, no limit
  EXPECT_EQ(check(NbdCommand::write_zeroes, 0, 1 << 20, kNbdCommandNoHole | kNbdCommandFastZero),
            kFine);
  EXPECT_EQ(check(NbdCommand::cache, 0, 4096), kFine);
  EXPECT_EQ(check(NbdCommand::read, 0, 512, kNbdCommandFua),
            kFine);  // allowed on all, to no effect
}

TEST(NbdCheck, RefusesWhatWasNotAnnounced) {
  NbdExport plain = kExport;
  plain.flags = kNbdHasFlags;
  for (const auto command :
       {NbdCommand::flush, NbdCommand::trim, NbdCommand::cache, NbdCommand::write_zeroes,
        NbdCommand::block_status, static_cast<NbdCommand>(99)}) {
    EXPECT_EQ(check(command, 0, 512, 0, plain), kInvalid);
  }
  EXPECT_EQ(check(NbdCommand::write, 0, 512, kNbdCommandFua, plain), kInvalid);
  EXPECT_EQ(check(NbdCommand::read, 0, 512, kNbdCommandDf, plain), kInvalid);
  EXPECT_EQ(check(NbdCommand::block_status, 0, 512), kInvalid);
}

TEST(NbdCheck, RefusesFlagsOfOtherCommands) {
  EXPECT_EQ(check(NbdCommand::write, 0, 512, kNbdCommandNoHole), kInvalid);
  EXPECT_EQ(check(NbdCommand::write, 0, 512, kNbdCommandDf), kInvalid);
  EXPECT_EQ(check(NbdCommand::read, 0, 512, kNbdCommandReqOne), kInvalid);
  EXPECT_EQ(check(NbdCommand::read, 0, 512, 0x8000), kInvalid);
}

TEST(NbdCheck, RangesEndAtTheEndOfTheExport) {
  EXPECT_EQ(check(NbdCommand::read, 1 << 20, 512), kInvalid);
  EXPECT_EQ(check(NbdCommand::read, (1 << 20) - 512, 1024), kInvalid);
  EXPECT_EQ(check(NbdCommand::trim, 1 << 20, 512), kInvalid);
  EXPECT_EQ(check(NbdCommand::write, 1 << 20, 512), from_errno(ENOSPC));
  EXPECT_EQ(check(NbdCommand::write_zeroes, 512, 1 << 20), from_errno(ENOSPC));
  EXPECT_EQ(check(NbdCommand::write, 0xfffffffffffffe00, 512),
            from_errno(ENOSPC));  // the sum wraps
}

TEST(NbdCheck, KeepsTheBlockSize) {
  EXPECT_EQ(check(NbdCommand::read, 1, 512), kInvalid);
  EXPECT_EQ(check(NbdCommand::read, 512, 513), kInvalid);
}

TEST(NbdCheck, S9_ReadOnlyExportsAreNotChanged) {
  NbdExport read_only = kExport;
  read_only.flags |= kNbdReadOnly;
  for (const auto command : {NbdCommand::write, NbdCommand::trim, NbdCommand::write_zeroes}) {
    EXPECT_EQ(check(command, 0, 512, 0, read_only), from_errno(EPERM));
  }
  EXPECT_EQ(check(NbdCommand::read, 0, 512, 0, read_only), kFine);
  EXPECT_EQ(check(NbdCommand::flush, 0, 0, 0, read_only), kFine);
}

TEST(NbdCheck, BoundsThePayload) {
  EXPECT_EQ(check(NbdCommand::read, 0, 65536 + 512), from_errno(EOVERFLOW));
  EXPECT_EQ(check(NbdCommand::write, 0, 65536 + 512), from_errno(EOVERFLOW));
}

TEST(NbdReply, SimpleAndStructured) {
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_simple_reply(0x1122334455667788, NbdError::inval))),
            "67 44 66 98 00 00 00 16 11 22 33 44 55 66 77 88");
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_done_chunk(1))),
            "66 8e 33 ef 00 01 00 00 00 00 00 00 00 00 00 01 00 00 00 00");
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_error_chunk(1, NbdError::nospc))),
            "66 8e 33 ef 00 01 80 01 00 00 00 00 00 00 00 01 00 00 00 06 00 00 00 1c 00 00");
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_data_chunk(1, 4096, 512, true))),
            "66 8e 33 ef 00 01 00 01 00 00 00 00 00 00 00 01 00 00 02 08 00 00 00 00 00 00 10 00");
  EXPECT_EQ(to_hex(bytes_of(encode_nbd_hole_chunk(1, 4096, 512, false))),
            "66 8e 33 ef 00 00 00 02 00 00 00 00 00 00 00 01 00 00 00 0c 00 00 00 00 00 00 10 00 "
            "00 00 02 00");
}

TEST(NbdErrors, FindTheNearestWord) {
  EXPECT_EQ(nbd_error({}), NbdError::none);
  EXPECT_EQ(nbd_error(from_errno(EROFS)), NbdError::perm);
  EXPECT_EQ(nbd_error(from_errno(ENOSPC)), NbdError::nospc);
  EXPECT_EQ(nbd_error(from_errno(EOPNOTSUPP)), NbdError::notsup);
  EXPECT_EQ(nbd_error(from_errno(ENOTCONN)), NbdError::io);
  EXPECT_EQ(nbd_error(Errc::read_only), NbdError::perm);
  EXPECT_EQ(nbd_error(Errc::session_closed), NbdError::shutdown);
  EXPECT_EQ(nbd_error(Errc::device_failed), NbdError::io);
}

}  // namespace
}  // namespace rnbd::wire
