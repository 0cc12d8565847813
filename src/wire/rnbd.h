#pragma once
// The bytes of RNBD as the Linux kernel speaks it (drivers/block/rnbd/rnbd-proto.h, major version
// 2): the user messages inside RTRS requests and the answers sent back as read data. Layouts are in
// wire::layout; the structs outside it are the same things decoded and checked. Encoders zero
// everything they do not fill.
//
// Pure functions. What is parsed must be a private copy of what the peer wrote.

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <variant>

#include "base/endian.h"
#include "base/error.h"
#include "wire/bytes.h"

namespace rnbd::wire {

inline constexpr std::uint8_t kRnbdVersion = 2;
inline constexpr std::uint32_t kSectorSize = 512;  // of every sector count, whatever the block size
inline constexpr int kSectorShift = 9;
inline constexpr std::size_t kDeviceNameMax = 254;  // bytes, without the NUL

enum class RnbdType : std::uint16_t {
  session_info = 0,
  session_info_response = 1,
  open = 2,
  open_response = 3,
  io = 4,
  close = 5,
};

enum class AccessMode : std::uint8_t { ro = 0, rw = 1, migration = 2 };
const char* access_mode_name(AccessMode mode);

enum class IoOp : std::uint8_t {
  read = 0,
  write = 1,
  flush = 2,
  discard = 3,
  secure_erase = 4,
  write_zeroes = 5,
};

// Io::flags. A receiver ignores bits it does not know.
inline constexpr std::uint32_t kIoSync = 0x100;
inline constexpr std::uint32_t kIoFua = 0x200;       // kernels set it for a pre-flush as well
inline constexpr std::uint32_t kIoPreflush = 0x400;  // newer kernels: flush the cache first
inline constexpr std::uint32_t kIoNoUnmap = 0x800;   // newer kernels: zero without deallocating

// OpenResponse::cache_policy
inline constexpr std::uint8_t kCacheFua = 1;        // FUA is supported
inline constexpr std::uint8_t kCacheWriteBack = 2;  // there is a volatile write cache

// The sector number Linux puts into a flush; nobody looks at it.
inline constexpr std::uint64_t kFlushSector = ~std::uint64_t{0};

namespace layout {

struct RnbdHeader {
  le16 type;
  le16 padding;
};
static_assert(WireStruct<RnbdHeader, 4>);

struct SessionInfo {  // request and response
  RnbdHeader header;
  std::uint8_t version;
  std::array<std::uint8_t, 31> reserved;
};
static_assert(WireStruct<SessionInfo, 36>);

struct Open {
  RnbdHeader header;
  std::uint8_t access_mode;
  std::uint8_t reserved1;
  std::array<char, 255> device_name;  // NUL-terminated; what follows the NUL is garbage
  std::array<std::uint8_t, 3> reserved;
};
static_assert(WireStruct<Open, 264>);
static_assert(offsetof(Open, device_name) == 6);

struct OpenResponse {
  RnbdHeader header;
  le32 device_id;
  le64 nsectors;
  le32 max_hw_sectors;
  le32 max_write_zeroes_sectors;
  le32 max_discard_sectors;
  le32 discard_granularity;
  le32 discard_alignment;
  le16 physical_block_size;
  le16 logical_block_size;
  le16 max_segments;
  le16 secure_discard;
  std::uint8_t obsolete_rotational;
  std::uint8_t cache_policy;
  le64 cache_identity;  // ours, in bytes the kernel leaves zero
  std::array<std::uint8_t, 2> reserved;
};
static_assert(WireStruct<OpenResponse, 56>);
static_assert(offsetof(OpenResponse, nsectors) == 8);
static_assert(offsetof(OpenResponse, max_write_zeroes_sectors) == 20);
static_assert(offsetof(OpenResponse, physical_block_size) == 36);
static_assert(offsetof(OpenResponse, cache_policy) == 45);

struct Io {
  RnbdHeader header;
  le32 device_id;
  le64 sector;
  le32 rw;        // operation in the low 8 bits, flags above
  le32 bi_size;   // bytes of the block operation
  le16 priority;  // absent in the 24 bytes of version 1
  std::array<std::uint8_t, 6> padding;
};
static_assert(WireStruct<Io, 32>);
static_assert(offsetof(Io, sector) == 8);
static_assert(offsetof(Io, rw) == 16);
static_assert(offsetof(Io, priority) == 24);
inline constexpr std::size_t kIoSizeV1 = offsetof(Io, priority);

struct Close {
  RnbdHeader header;
  le32 device_id;
};
static_assert(WireStruct<Close, 8>);

}  // namespace layout

// ---- What a client sends ----

struct SessionInfo {
  std::uint8_t version = kRnbdVersion;  // major version of the sender; both use the smaller one
};

struct Open {
  AccessMode access_mode = AccessMode::rw;
  std::string_view
      device_name;  // parsed: inside the bytes given to the parser; 1..254 bytes, no NUL
};

struct Io {
  std::uint32_t device_id = 0;
  IoOp op = IoOp::read;
  std::uint32_t flags = 0;   // kIo...
  std::uint64_t sector = 0;  // in units of kSectorSize; meaningless for flush
  std::uint32_t length =
      0;  // bytes of the block operation; discard and zeroes carry no data for it
  std::uint16_t priority = 0;  // Linux io priority; 0: none
};

struct Close {
  std::uint32_t device_id = 0;
};

using RnbdMessage = std::variant<SessionInfo, Open, Io, Close>;

layout::SessionInfo encode(const SessionInfo& message);
layout::Open encode(const Open& message);  // the name must be valid_device_name()
layout::Io encode(const Io& message);
layout::Close encode(const Close& message);

bool valid_device_name(std::string_view name);  // 1..254 bytes, no NUL

// A user message as the server got it. The error is the errno to answer with: EINVAL for an unknown
// type, a message too short for its type, a bad name or access mode; EOPNOTSUPP for an unknown
// operation. Messages may be longer than their type needs.
Result<RnbdMessage> parse_rnbd_message(ByteView bytes);

// How RTRS carried an IO: what its message says must agree with it.
struct Carriage {
  bool read = false;               // RTRS read request
  std::uint32_t data_length = 0;   // data in, or room for data out
  std::uint32_t reply_length = 0;  // bytes the client wants back (0 for writes)
};
// EINVAL where `io` and its carriage disagree: data of another length than the operation, data
// moving the wrong way, data where there should be none. EOPNOTSUPP for write zeroes with data,
// which is the WRITE SAME of kernels before 5.18. Success means: read and write have exactly
// `length` bytes, the others have none.
std::error_code check_io(const Io& io, const Carriage& carriage);

// ---- What a server answers ----

struct OpenResponse {
  std::uint32_t device_id = 0;
  std::uint64_t nsectors = 0;
  std::uint32_t max_hw_sectors = 0;
  std::uint32_t max_write_zeroes_sectors = 0;  // 0: not supported
  std::uint32_t max_discard_sectors = 0;       // 0: not supported
  std::uint32_t discard_granularity = 0;       // bytes
  std::uint32_t discard_alignment = 0;         // bytes
  std::uint16_t physical_block_size = 512;     // bytes
  std::uint16_t logical_block_size = 512;      // bytes
  std::uint16_t max_segments = 0;
  std::uint16_t secure_discard = 0;  // not 0: supported
  std::uint8_t cache_policy = 0;     // kCache...
  // Only between our own ends, else 0: acknowledged writes that were not flushed are all there as
  // long as this number stays what it is.
  std::uint64_t cache_identity = 0;
};

layout::SessionInfo encode_session_info_response(std::uint8_t version);
layout::OpenResponse encode(const OpenResponse& response);

// The version to use with this server: the smaller of both. protocol_violation if short or 0.
Result<std::uint8_t> parse_session_info_response(ByteView bytes);
// protocol_violation if short or of another type; bad_geometry for a logical block size that is no
// power of two from 512 on, or a size that is no multiple of it or does not fit a signed byte
// offset. A physical block size that makes no sense is replaced by the logical one, since nothing
// depends on it.
Result<OpenResponse> parse_open_response(ByteView bytes);

}  // namespace rnbd::wire
