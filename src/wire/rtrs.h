#pragma once
// The bytes of RTRS as the Linux kernel speaks it (drivers/infiniband/ulp/rtrs/rtrs-pri.h): connect
// request and response, info exchange, the read and write messages inside a chunk, and the
// immediate. Layouts are in wire::layout; the structs outside it are the same things decoded, with
// every check a receiver owes done.
//
// Pure functions. What is parsed must be a private copy of what the peer wrote.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/endian.h"
#include "base/error.h"
#include "base/random.h"
#include "wire/bytes.h"

namespace rnbd::wire {

inline constexpr std::uint16_t kRtrsMagic = 0x1bbd;
inline constexpr std::uint8_t kRtrsVersionMajor = 2;
inline constexpr std::uint8_t kRtrsVersionMinor = 0;
inline constexpr std::uint16_t kRtrsVersion = kRtrsVersionMajor << 8 | kRtrsVersionMinor;

inline constexpr std::uint32_t kServiceQueueDepth = 512;  // receives a server posts on connection 0
inline constexpr std::uint32_t kConnectionsPerPathMax = 4096;
inline constexpr std::uint32_t kPathsPerSessionMax = 128;
inline constexpr std::uint32_t kQueueDepthMax = 65535;
inline constexpr std::uint32_t kChunkSizeMin = 8192;
inline constexpr std::size_t kSessionNameMax = 254;   // characters, without the NUL
inline constexpr std::size_t kRtrsMessageMax = 24;    // the longest RTRS message inside a chunk
inline constexpr std::uint32_t kHeaderSizeMin = 288;  // OPEN and its RTRS read message must fit
inline constexpr std::uint32_t kIoSizeMin =
    512;                                   // a session that cannot move a sector is of no use
inline constexpr int kWireErrnoMax = 511;  // a response has 9 bits for it

enum class RtrsType : std::uint16_t {
  info_request = 0,
  info_response = 1,
  write = 2,
  read = 3,
  rkey_response = 4,
  control = 0x4000,  // ours alone, see Extension
};

inline constexpr std::uint8_t kConnectFirst = 1;         // layout::ConnectRequest::flags
inline constexpr std::uint32_t kConnectNewRkey = 2;      // layout::ConnectResponse::flags
inline constexpr std::uint16_t kReadNeedInvalidate = 1;  // layout::ReadMessage::flags

namespace layout {

struct ConnectRequest {
  std::uint8_t cma_version;  // 0, and overwritten by the CM on AF_IB: never looked at
  std::uint8_t ip_version;
  le16 magic;
  le16 version;
  le16 cid;
  le16 cid_num;
  le16 recon_cnt;
  Uuid sess_uuid;
  Uuid paths_uuid;
  std::uint8_t flags;
  std::array<std::uint8_t, 11> reserved;
};
static_assert(WireStruct<ConnectRequest, 56>);
static_assert(offsetof(ConnectRequest, sess_uuid) == 12);
static_assert(offsetof(ConnectRequest, paths_uuid) == 28);
static_assert(offsetof(ConnectRequest, flags) == 44);

struct ConnectResponse {
  le16 magic;
  le16 version;
  le16 error;  // 0, or a negative errno in two's complement
  le16 queue_depth;
  le32 max_io_size;
  le32 max_hdr_size;
  le32 flags;
  std::array<std::uint8_t, 36> reserved;
};
static_assert(WireStruct<ConnectResponse, 56>);
static_assert(offsetof(ConnectResponse, max_io_size) == 8);
static_assert(offsetof(ConnectResponse, flags) == 16);

struct InfoRequest {
  le16 type;
  std::array<char, 255> name;  // NUL-terminated
  std::array<std::uint8_t, 15> reserved;
};
static_assert(WireStruct<InfoRequest, 272>);
static_assert(offsetof(InfoRequest, reserved) == 257);

struct InfoResponse {  // followed by descriptor_count descriptors
  le16 type;
  le16 descriptor_count;
  le32 reserved;
};
static_assert(WireStruct<InfoResponse, 8>);

struct Descriptor {
  le64 address;
  le32 key;
  le32 length;
};
static_assert(WireStruct<Descriptor, 16>);

struct WriteMessage {
  le16 type;
  le16 usr_len;
};
static_assert(WireStruct<WriteMessage, 4>);

struct ReadMessage {  // followed by descriptor_count (0 or 1) descriptors
  le16 type;
  le16 usr_len;
  le16 flags;
  le16 descriptor_count;
};
static_assert(WireStruct<ReadMessage, 8>);

struct RkeyResponse {
  le16 type;
  le16 chunk;
  le32 rkey;
};
static_assert(WireStruct<RkeyResponse, 8>);

struct Extension {  // right behind a ConnectResponse, where the kernel client does not look
  std::array<char, 8> magic;
  le16 version;
  le16 reserved;
  le32 features;
  Uuid instance;
  Uuid boot;
};
static_assert(WireStruct<Extension, 48>);

struct ControlMessage {
  le16 type;
  le16 usr_len;  // 0
  le16 kind;
  le16 recon_cnt;
  Uuid path;
};
static_assert(WireStruct<ControlMessage, 24>);

}  // namespace layout

// ---- Connect ----

struct ConnectRequest {
  std::uint16_t cid = 0;      // index of this connection; 0 is the service connection
  std::uint16_t cid_num = 0;  // connections of the path
  std::uint16_t recon_cnt = 0;
  Uuid sess_uuid{};         // names the path
  Uuid paths_uuid{};        // names the session
  bool first_conn = false;  // the server may create the session
};

layout::ConnectRequest encode_connect_request(const ConnectRequest& request);
// not_rtrs_peer (short, wrong magic), version_mismatch, protocol_violation (cid, cid_num). The
// kernel server answers all of them with a reject of ECONNRESET. Longer than 56 bytes is fine: IB
// pads.
Result<ConnectRequest> parse_connect_request(ByteView bytes);

struct ConnectAccept {
  std::uint16_t queue_depth = 0;
  std::uint32_t max_io_size = 0;
  std::uint32_t max_hdr_size = 0;
  bool new_rkey = false;  // every response brings a new key of its chunk (always_invalidate=Y)

  std::uint32_t chunk_size() const { return max_io_size + max_hdr_size; }
};

// What two of our own ends say to each other beyond the kernel's protocol (docs/protocol.md). The
// server announces itself behind the accept of connection 0; a client that finds it there answers
// with a hello, the first of its control messages. So a kernel client gets some bytes it never
// reads, and a kernel server nothing at all.
inline constexpr std::uint32_t kFeatureFence = 1;   // knows ControlKind::fence
inline constexpr std::uint32_t kFeatureNotice = 2;  // sends ImmediateType::notice
struct Extension {
  std::uint32_t features = 0;
  Uuid instance{};  // of the server process
  Uuid boot{};      // of the kernel it runs on: what its page cache holds lives as long
  bool operator==(const Extension&) const = default;
};

layout::Extension encode_extension(const Extension& extension);
// From all the private data of an accept; nothing where there is no extension of ours.
std::optional<Extension> parse_extension(ByteView accept);

layout::ConnectResponse encode_connect_accept(const ConnectAccept& accept);
layout::ConnectResponse encode_connect_reject(int error);  // positive errno, at most 32767
// The private data of an accept. not_rtrs_peer, version_mismatch, the errno inside if there is one,
// and on the service connection bad_geometry for sizes no session can work with; on the others
// sizes are not looked at, as the kernel does it.
Result<ConnectAccept> parse_connect_accept(ByteView bytes, bool service_connection);
// Why a server refused: its errno; connect_rejected when it does not say; version_mismatch. Never
// success.
std::error_code parse_connect_reject(ByteView bytes);

// True when chunk id and offset fit the 28 bits of an immediate, and the numbers themselves are
// sane.
bool geometry_fits(std::uint32_t queue_depth, std::uint64_t chunk_size);

// ---- Info exchange, on the service connection ----

bool valid_session_name(std::string_view name);  // 1..254 bytes without NUL, '/' and '.'

// `name` must be valid.
layout::InfoRequest encode_info_request(std::string_view name);
// The session name. protocol_violation for anything the kernel server closes the path for.
Result<std::string> parse_info_request(ByteView bytes);

struct Descriptor {
  std::uint64_t address = 0;
  std::uint32_t key = 0;
  std::uint32_t length = 0;
};

inline constexpr std::size_t info_response_size(std::size_t descriptors) {
  return sizeof(layout::InfoResponse) + descriptors * sizeof(layout::Descriptor);
}
std::vector<std::byte> encode_info_response(std::span<const Descriptor> regions);

// Where a client writes the requests of one chunk.
struct RemoteChunk {
  std::uint64_t address = 0;
  std::uint32_t key = 0;
};
// The chunk table: exactly queue_depth entries, or protocol_violation.
Result<std::vector<RemoteChunk>> parse_info_response(ByteView bytes, const ConnectAccept& limits);

// ---- The immediate ----

enum class ImmediateType : std::uint8_t {
  io_request = 0,
  io_response = 1,
  io_response_invalidated = 2,  // the client's key was invalidated by the send just before
  heartbeat = 8,
  heartbeat_ack = 9,
  notice = 10,  // ours alone, see Extension
};              // others exist in 4 bits: a receiver ignores them

inline constexpr std::uint32_t kHeartbeatImmediate = 0x80000000;
inline constexpr std::uint32_t kHeartbeatAckImmediate = 0x90000000;
inline constexpr std::uint32_t kNoticeImmediate = 0xa0000000;

constexpr ImmediateType immediate_type(std::uint32_t immediate) {
  return static_cast<ImmediateType>(immediate >> 28);
}
static_assert(immediate_type(kNoticeImmediate) == ImmediateType::notice);

// How 28 bits are shared by chunk id and offset; both sides compute it from the queue depth.
class RequestImmediate {
 public:
  struct Decoded {
    std::uint32_t chunk = 0;   // to be checked against the queue depth
    std::uint32_t offset = 0;  // of the RTRS message in the chunk; to be checked against its size
  };

  constexpr explicit RequestImmediate(std::uint32_t queue_depth)
      : offset_bits_(28 -
                     static_cast<int>(std::bit_width(queue_depth == 0 ? 0 : queue_depth - 1))) {}

  constexpr int chunk_bits() const { return 28 - offset_bits_; }
  constexpr int offset_bits() const { return offset_bits_; }
  constexpr std::uint32_t encode(std::uint32_t chunk, std::uint32_t offset) const {
    return chunk << offset_bits_ | offset;
  }
  constexpr Decoded decode(std::uint32_t immediate) const {
    const std::uint32_t payload = immediate & 0x0fffffff;
    return {payload >> offset_bits_, payload & ((std::uint32_t{1} << offset_bits_) - 1)};
  }

 private:
  int offset_bits_;
};

struct ResponseImmediate {
  std::uint32_t id = 0;  // to be checked: in flight on this connection?
  int error = 0;         // errno, 0..511
};

constexpr std::uint32_t encode_response(std::uint32_t id, int error, bool invalidated = false) {
  constexpr int kEio = 5;  // for what 9 bits cannot say
  const auto word = static_cast<std::uint32_t>(error < 0 || error > kWireErrnoMax ? kEio : error);
  const std::uint32_t type = invalidated ? 2 : 1;
  return type << 28 | word << 19 | (id & 0x7ffff);
}
constexpr ResponseImmediate decode_response(std::uint32_t immediate) {
  return {immediate & 0x7ffff, static_cast<int>(immediate >> 19 & 0x1ff)};
}

// ---- Requests inside a chunk ----
//
// write: | data | user message | WriteMessage |          written from the start of the chunk
// read:  | (room for data) | user message | ReadMessage [Descriptor] |   written from behind the
// room
//                                          ^ offset of the immediate

layout::WriteMessage encode_write(std::uint16_t usr_len);

// A read message and, if there is data, its descriptor: the first `size` bytes of `bytes`.
struct EncodedRead {
  std::array<std::byte, kRtrsMessageMax> bytes{};
  std::size_t size = 0;
  ByteView view() const { return ByteView(bytes).first(size); }
};
EncodedRead encode_read(std::uint16_t usr_len);
EncodedRead encode_read(std::uint16_t usr_len, const Descriptor& target, bool need_invalidate);

enum class ControlKind : std::uint16_t {
  hello = 1,  // the client knows our extension
  fence = 2,  // answer when nothing of that path's connection `recon_cnt`, or an earlier one, runs
              // any more or ever will
};
struct Control {
  ControlKind kind = ControlKind::hello;
  std::uint16_t recon_cnt = 0;
  Uuid path{};  // sess_uuid
};
layout::ControlMessage encode_control(const Control& control);
// `header` as for parse_io_request, which said `control`. EOPNOTSUPP for a kind we do not know.
Result<Control> parse_control(ByteView header);

struct IoRequest {
  bool read = false;          // data goes to the client
  bool control = false;       // for RTRS itself: see parse_control; it carries nothing else
  std::uint16_t usr_len = 0;  // user message: chunk bytes [data_length, data_length + usr_len)
  std::uint32_t data_length =
      0;                    // chunk bytes [0, data_length): the client's data, or room for ours
  bool has_target = false;  // read with somewhere to write the answer
  // Not one target, or one of no bytes or of more than the room: the rest would be bytes nobody put
  // there for the client. Nothing can be sent, but the request can be answered: EINVAL.
  bool bad_target = false;
  bool need_invalidate = false;  // only with has_target
  Descriptor target;             // length 1..data_length
};

// `header` is a copy of the chunk from `offset` on: min(24, chunk size - offset) bytes. usr_len is
// at most `usr_len_max` (the header area), so the user message may then be copied out of the chunk
// as it says. protocol_violation for what is no request at all: it could be answered to anybody's.
Result<IoRequest> parse_io_request(ByteView header, std::uint32_t offset,
                                   std::uint32_t usr_len_max);

layout::RkeyResponse encode_rkey_response(std::uint16_t chunk, std::uint32_t rkey);
// The new key of chunk `id`, the id in the immediate it came with.
Result<std::uint32_t> parse_rkey_response(ByteView bytes, std::uint32_t id);

}  // namespace rnbd::wire
