#pragma once
// The bytes of the NBD protocol as a fixed-newstyle server needs them (the NBD protocol document,
// doc/proto.md of the nbd project): the handshake and its options, requests, simple and structured
// replies. Layouts are in wire::layout; what a client sends is parsed into the structs outside it.
// All big endian.
//
// Pure functions over private copies.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "base/error.h"
#include "wire/bytes.h"

namespace rnbd::wire {

inline constexpr std::uint64_t kNbdMagic = 0x4e42444d41474943;        // "NBDMAGIC"
inline constexpr std::uint64_t kNbdOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
inline constexpr std::uint64_t kNbdOptionReplyMagic = 0x0003e889045565a9;
inline constexpr std::uint32_t kNbdRequestMagic = 0x25609513;
inline constexpr std::uint32_t kNbdSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kNbdStructuredReplyMagic = 0x668e33ef;

inline constexpr std::uint16_t kNbdPort = 10809;
inline constexpr std::size_t kNbdNameMax = 4096;  // bytes of any string
inline constexpr std::size_t kNbdOptionLengthMax =
    64 * 1024;                                              // longer option data is refused unread
inline constexpr std::uint32_t kNbdPayloadMax = 32U << 20;  // what a client may send without asking
inline constexpr std::size_t kNbdExportNameZeroes =
    124;  // end an EXPORT_NAME answer unless agreed away

// Handshake flags, of the server (16 bits) and of the client (32 bits): the same numbers.
inline constexpr std::uint16_t kNbdFixedNewstyle = 1;
inline constexpr std::uint16_t kNbdNoZeroes = 2;

enum class NbdOption : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class NbdOptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  error_unsupported = 0x80000001,
  error_policy = 0x80000002,
  error_invalid = 0x80000003,
  error_platform = 0x80000004,
  error_tls_required = 0x80000005,
  error_unknown = 0x80000006,  // no such export
  error_shutdown = 0x80000007,
  error_block_size_required = 0x80000008,
  error_too_big = 0x80000009,
};

enum class NbdInfo : std::uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

// Transmission flags: what an export can do.
inline constexpr std::uint16_t kNbdHasFlags = 1 << 0;
inline constexpr std::uint16_t kNbdReadOnly = 1 << 1;
inline constexpr std::uint16_t kNbdSendFlush = 1 << 2;
inline constexpr std::uint16_t kNbdSendFua = 1 << 3;
inline constexpr std::uint16_t kNbdRotational = 1 << 4;
inline constexpr std::uint16_t kNbdSendTrim = 1 << 5;
inline constexpr std::uint16_t kNbdSendWriteZeroes = 1 << 6;
inline constexpr std::uint16_t kNbdSendDf = 1 << 7;  // only after structured replies were agreed on
inline constexpr std::uint16_t kNbdCanMultiConn = 1 << 8;
inline constexpr std::uint16_t kNbdSendResize = 1 << 9;
inline constexpr std::uint16_t kNbdSendCache = 1 << 10;
inline constexpr std::uint16_t kNbdSendFastZero = 1 << 11;

enum class NbdCommand : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

// Command flags.
inline constexpr std::uint16_t kNbdCommandFua = 1 << 0;
inline constexpr std::uint16_t kNbdCommandNoHole = 1 << 1;
inline constexpr std::uint16_t kNbdCommandDf = 1 << 2;  // answer a read in one chunk
inline constexpr std::uint16_t kNbdCommandReqOne = 1 << 3;
inline constexpr std::uint16_t kNbdCommandFastZero = 1 << 4;

enum class NbdChunk : std::uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  error = 0x8001,
  error_offset = 0x8002,
};
inline constexpr std::uint16_t kNbdChunkDone = 1;  // the last chunk of its reply

enum class NbdError : std::uint32_t {
  none = 0,
  perm = 1,
  io = 5,
  nomem = 12,
  inval = 22,
  nospc = 28,
  overflow = 75,
  notsup = 95,
  shutdown = 108,
};
// The nearest NBD has for an error; io where it has no word.
NbdError nbd_error(const std::error_code& error);

namespace layout {

struct NbdGreeting {
  be64 magic;
  be64 option_magic;
  be16 flags;
};
static_assert(WireStruct<NbdGreeting, 18>);

struct NbdOptionHeader {  // from the client; `length` bytes of option data follow
  be64 magic;
  be32 option;
  be32 length;
};
static_assert(WireStruct<NbdOptionHeader, 16>);

struct NbdOptionReplyHeader {  // `length` bytes follow
  be64 magic;
  be32 option;
  be32 type;
  be32 length;
};
static_assert(WireStruct<NbdOptionReplyHeader, 20>);

struct NbdExportName {  // answers EXPORT_NAME; kNbdExportNameZeroes zeroes may follow
  be64 size;
  be16 flags;
};
static_assert(WireStruct<NbdExportName, 10>);

struct NbdInfoExport {
  be16 type;
  be64 size;
  be16 flags;
};
static_assert(WireStruct<NbdInfoExport, 12>);

struct NbdInfoBlockSize {
  be16 type;
  be32 minimum;
  be32 preferred;
  be32 maximum;
};
static_assert(WireStruct<NbdInfoBlockSize, 14>);

struct NbdRequest {  // the data of a write follows
  be32 magic;
  be16 flags;
  be16 type;
  be64 cookie;
  be64 offset;
  be32 length;
};
static_assert(WireStruct<NbdRequest, 28>);
static_assert(offsetof(NbdRequest, offset) == 16);

struct NbdSimpleReply {  // the data of a read follows if there was no error
  be32 magic;
  be32 error;
  be64 cookie;
};
static_assert(WireStruct<NbdSimpleReply, 16>);

struct NbdChunkHeader {  // `length` bytes follow
  be32 magic;
  be16 flags;
  be16 type;
  be64 cookie;
  be32 length;
};
static_assert(WireStruct<NbdChunkHeader, 20>);

struct NbdOffsetDataChunk {  // header and offset of a read's data, which follows
  NbdChunkHeader header;
  be64 offset;
};
static_assert(WireStruct<NbdOffsetDataChunk, 28>);

struct NbdOffsetHoleChunk {
  NbdChunkHeader header;
  be64 offset;
  be32 hole_length;
};
static_assert(WireStruct<NbdOffsetHoleChunk, 32>);

struct NbdErrorChunk {  // without words
  NbdChunkHeader header;
  be32 error;
  be16 message_length;
};
static_assert(WireStruct<NbdErrorChunk, 26>);

}  // namespace layout

// ---- Handshake ----

layout::NbdGreeting encode_nbd_greeting();

struct NbdClientFlags {
  bool no_zeroes = false;
};
// The 4 bytes after the greeting. protocol_violation without fixed newstyle or with flags we did
// not offer: the connection must be closed.
Result<NbdClientFlags> parse_nbd_client_flags(ByteView bytes);

struct NbdOptionHeader {
  NbdOption option{};  // may be any number
  std::uint32_t length = 0;
};
// protocol_violation (wrong magic): close. A length above kNbdOptionLengthMax is the caller's to
// refuse.
Result<NbdOptionHeader> parse_nbd_option_header(ByteView bytes);

// INFO and GO. Views point into the bytes parsed.
struct NbdInfoRequest {
  std::string_view name;        // empty: the default export
  std::vector<NbdInfo> wanted;  // may hold unknown numbers; the export itself is always sent
  bool wants(NbdInfo info) const;
};
// protocol_violation: answer error_invalid and go on. too_long: error_too_big.
Result<NbdInfoRequest> parse_nbd_info_request(ByteView data);
// The data of EXPORT_NAME, which cannot be refused but by closing.
Result<std::string_view> parse_nbd_export_name(ByteView data);

layout::NbdOptionReplyHeader encode_nbd_option_reply(NbdOption option, NbdOptionReply type,
                                                     std::uint32_t length = 0);
layout::NbdExportName encode_nbd_export_name(std::uint64_t size, std::uint16_t flags);
layout::NbdInfoExport encode_nbd_info_export(std::uint64_t size, std::uint16_t flags);
layout::NbdInfoBlockSize encode_nbd_info_block_size(std::uint32_t minimum, std::uint32_t preferred,
                                                    std::uint32_t maximum);

// ---- Transmission ----

struct NbdRequest {
  NbdCommand command{};  // may be any number
  std::uint16_t flags = 0;
  std::uint64_t cookie = 0;
  std::uint64_t offset = 0;
  std::uint32_t length =
      0;  // a write has this many bytes behind it, whatever else is wrong with it
};
// protocol_violation (wrong magic): close, the stream is lost.
Result<NbdRequest> parse_nbd_request(ByteView bytes);

struct NbdExport {
  std::uint64_t size = 0;
  std::uint16_t flags = 0;           // transmission flags, as announced
  std::uint32_t block_size_min = 1;  // power of two, as announced
  std::uint32_t payload_max = kNbdPayloadMax;
};
// What a well-formed request may not ask of this export, as the errno to answer with: EINVAL for
// unknown or not announced commands and flags, alignment, ranges of reads and trims; EPERM for
// changes to a read-only export; ENOSPC for writes beyond the end; EOVERFLOW for reads and writes
// above payload_max. disconnect is not checked: it has no answer.
std::error_code check_nbd_request(const NbdRequest& request, const NbdExport& on);

layout::NbdSimpleReply encode_nbd_simple_reply(std::uint64_t cookie, NbdError error);
// The only chunk of an answer without data.
layout::NbdChunkHeader encode_nbd_done_chunk(std::uint64_t cookie);
layout::NbdErrorChunk encode_nbd_error_chunk(std::uint64_t cookie, NbdError error);
// Before `length` bytes of data; `last` ends the reply.
layout::NbdOffsetDataChunk encode_nbd_data_chunk(std::uint64_t cookie, std::uint64_t offset,
                                                 std::uint32_t length, bool last);
layout::NbdOffsetHoleChunk encode_nbd_hole_chunk(std::uint64_t cookie, std::uint64_t offset,
                                                 std::uint32_t length, bool last);

}  // namespace rnbd::wire
