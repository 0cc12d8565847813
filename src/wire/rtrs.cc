#include "wire/rtrs.h"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace rnbd::wire {

namespace {

constexpr int kImmediateBits = 28;

constexpr std::uint16_t number(RtrsType type) { return static_cast<std::uint16_t>(type); }

// What request, accept and reject have in common.
std::error_code check_peer(std::uint16_t magic, std::uint16_t version) {
  if (magic != kRtrsMagic) return Errc::not_rtrs_peer;
  if (version >> 8 != kRtrsVersionMajor) return Errc::version_mismatch;
  return {};
}

// The positive errno of a response's error field, which should be negative.
int response_errno(std::uint16_t field) {
  const int value = field >= 0x8000 ? 0x10000 - field : field;
  constexpr int kErrnoMax = 4095;
  return std::min(value, kErrnoMax);
}

bool sane(const ConnectAccept& accept) {
  const std::uint64_t chunk_size = std::uint64_t{accept.max_io_size} + accept.max_hdr_size;
  return accept.max_io_size >= kIoSizeMin && accept.max_hdr_size >= kHeaderSizeMin &&
         geometry_fits(accept.queue_depth, chunk_size);
}

}  // namespace

layout::ConnectRequest encode_connect_request(const ConnectRequest& request) {
  layout::ConnectRequest out{};
  out.magic = kRtrsMagic;
  out.version = kRtrsVersion;
  out.cid = request.cid;
  out.cid_num = request.cid_num;
  out.recon_cnt = request.recon_cnt;
  out.sess_uuid = request.sess_uuid;
  out.paths_uuid = request.paths_uuid;
  out.flags = request.first_conn ? kConnectFirst : std::uint8_t{0};
  return out;
}

Result<ConnectRequest> parse_connect_request(ByteView bytes) {
  const auto in = load<layout::ConnectRequest>(bytes);
  if (!in) return fail(Errc::not_rtrs_peer);
  if (const auto error = check_peer(in->magic, in->version)) return fail(error);
  if (in->cid_num > kConnectionsPerPathMax) return fail(Errc::protocol_violation);
  if (in->cid >= in->cid_num) return fail(Errc::protocol_violation);
  return ConnectRequest{
      .cid = in->cid,
      .cid_num = in->cid_num,
      .recon_cnt = in->recon_cnt,
      .sess_uuid = in->sess_uuid,
      .paths_uuid = in->paths_uuid,
      .first_conn = (in->flags & kConnectFirst) != 0,
  };
}

layout::ConnectResponse encode_connect_accept(const ConnectAccept& accept) {
  layout::ConnectResponse out{};
  out.magic = kRtrsMagic;
  out.version = kRtrsVersion;
  out.queue_depth = accept.queue_depth;
  out.max_io_size = accept.max_io_size;
  out.max_hdr_size = accept.max_hdr_size;
  out.flags = accept.new_rkey ? kConnectNewRkey : 0;
  return out;
}

namespace {

constexpr std::array<char, 8> kExtensionMagic{'r', 'n', 'b', 'd', '-', 'e', 'x', 't'};
constexpr std::uint16_t kExtensionVersion = 1;  // later ones only add

}  // namespace

layout::Extension encode_extension(const Extension& extension) {
  return {.magic = kExtensionMagic,
          .version = kExtensionVersion,
          .reserved = 0,
          .features = extension.features,
          .instance = extension.instance,
          .boot = extension.boot};
}

std::optional<Extension> parse_extension(ByteView accept) {
  if (accept.size() < sizeof(layout::ConnectResponse)) return std::nullopt;
  const auto in = load<layout::Extension>(accept.subspan(sizeof(layout::ConnectResponse)));
  if (!in || in->magic != kExtensionMagic || in->version < kExtensionVersion) return std::nullopt;
  return Extension{.features = in->features, .instance = in->instance, .boot = in->boot};
}

layout::ConnectResponse encode_connect_reject(int error) {
  RNBD_ASSERT(error > 0);
  RNBD_ASSERT(error <= std::numeric_limits<std::int16_t>::max());
  layout::ConnectResponse out{};
  out.magic = kRtrsMagic;
  out.version = kRtrsVersion;
  out.error = static_cast<std::uint16_t>(0x10000 - error);
  return out;
}

Result<ConnectAccept> parse_connect_accept(ByteView bytes, bool service_connection) {
  const auto in = load<layout::ConnectResponse>(bytes);
  if (!in) return fail(Errc::not_rtrs_peer);
  if (const auto error = check_peer(in->magic, in->version)) return fail(error);
  if (in->error != 0) return fail_errno(response_errno(in->error));
  const ConnectAccept accept{
      .queue_depth = in->queue_depth,
      .max_io_size = in->max_io_size,
      .max_hdr_size = in->max_hdr_size,
      .new_rkey = (in->flags & kConnectNewRkey) != 0,
  };
  if (service_connection && !sane(accept)) return fail(Errc::bad_geometry);
  return accept;
}

std::error_code parse_connect_reject(ByteView bytes) {
  const auto in = load<layout::ConnectResponse>(bytes);
  if (!in || in->magic != kRtrsMagic) return Errc::connect_rejected;
  if (const auto error = check_peer(in->magic, in->version)) return error;
  if (in->error == 0) return Errc::connect_rejected;
  return from_errno(response_errno(in->error));
}

bool geometry_fits(std::uint32_t queue_depth, std::uint64_t chunk_size) {
  if (queue_depth == 0 || queue_depth > kQueueDepthMax || chunk_size == 0) return false;
  return std::bit_width(queue_depth - 1) + std::bit_width(chunk_size - 1) <= kImmediateBits;
}

bool valid_session_name(std::string_view name) {
  constexpr std::string_view kForbidden("/.\0", 3);
  return !name.empty() && name.size() <= kSessionNameMax &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

layout::InfoRequest encode_info_request(std::string_view name) {
  RNBD_ASSERT(valid_session_name(name));
  layout::InfoRequest out{};
  out.type = number(RtrsType::info_request);
  std::copy(name.begin(), name.end(), out.name.begin());
  return out;
}

Result<std::string> parse_info_request(ByteView bytes) {
  const auto in = load<layout::InfoRequest>(bytes);
  if (!in || in->type != number(RtrsType::info_request)) return fail(Errc::protocol_violation);
  // Without a NUL it is all 255 bytes, one more than a valid name has.
  std::string name(in->name.begin(), std::find(in->name.begin(), in->name.end(), '\0'));
  if (!valid_session_name(name)) return fail(Errc::protocol_violation);
  return name;
}

std::vector<std::byte> encode_info_response(std::span<const Descriptor> regions) {
  RNBD_ASSERT(!regions.empty());
  RNBD_ASSERT(regions.size() <= kQueueDepthMax);
  std::vector<std::byte> out(info_response_size(regions.size()));
  layout::InfoResponse header{};
  header.type = number(RtrsType::info_response);
  header.descriptor_count = static_cast<std::uint16_t>(regions.size());
  std::size_t at = store(out, header);
  for (const auto& region : regions) {
    at += store(std::span(out).subspan(at),
                layout::Descriptor{region.address, region.key, region.length});
  }
  return out;
}

Result<std::vector<RemoteChunk>> parse_info_response(ByteView bytes, const ConnectAccept& limits) {
  Reader reader(bytes);
  const auto header = reader.take<layout::InfoResponse>();
  if (!header || header->type != number(RtrsType::info_response))
    return fail(Errc::protocol_violation);
  const std::uint32_t count = header->descriptor_count;
  if (count == 0 || limits.queue_depth % count != 0) return fail(Errc::protocol_violation);

  const std::uint32_t chunk_size = limits.chunk_size();
  std::vector<RemoteChunk> chunks;
  chunks.reserve(limits.queue_depth);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto region = reader.take<layout::Descriptor>();
    if (!region) return fail(Errc::protocol_violation);
    const std::uint32_t length = region->length;
    if (length == 0 || length % chunk_size != 0) return fail(Errc::protocol_violation);
    if (length / chunk_size > limits.queue_depth - chunks.size())
      return fail(Errc::protocol_violation);
    if (region->address > std::numeric_limits<std::uint64_t>::max() - length) {
      return fail(Errc::protocol_violation);
    }
    for (std::uint32_t offset = 0; offset < length; offset += chunk_size) {
      chunks.push_back({region->address + offset, region->key});
    }
  }
  if (chunks.size() != limits.queue_depth) return fail(Errc::protocol_violation);
  return chunks;
}

layout::WriteMessage encode_write(std::uint16_t usr_len) {
  return {number(RtrsType::write), usr_len};
}

EncodedRead encode_read(std::uint16_t usr_len) {
  EncodedRead out;
  out.size = store(out.bytes, layout::ReadMessage{number(RtrsType::read), usr_len, 0, 0});
  return out;
}

EncodedRead encode_read(std::uint16_t usr_len, const Descriptor& target, bool need_invalidate) {
  EncodedRead out;
  const std::uint16_t flags = need_invalidate ? kReadNeedInvalidate : std::uint16_t{0};
  out.size = store(out.bytes, layout::ReadMessage{number(RtrsType::read), usr_len, flags, 1});
  out.size += store(std::span(out.bytes).subspan(out.size),
                    layout::Descriptor{target.address, target.key, target.length});
  return out;
}

namespace {

// The part of a read behind type and usr_len.
std::error_code parse_read(ByteView header, IoRequest& request) {
  Reader reader(header);
  const auto message = reader.take<layout::ReadMessage>();
  if (!message) return Errc::protocol_violation;
  if (message->descriptor_count == 0) return {};
  if (message->descriptor_count != 1) {
    request.bad_target = true;
    return {};
  }
  const auto target = reader.take<layout::Descriptor>();
  if (!target) return Errc::protocol_violation;
  if (target->length == 0 || target->length > request.data_length) {
    request.bad_target = true;
    return {};
  }
  request.has_target = true;
  request.need_invalidate = (message->flags & kReadNeedInvalidate) != 0;
  request.target = {target->address, target->key, target->length};
  return {};
}

}  // namespace

Result<IoRequest> parse_io_request(ByteView header, std::uint32_t offset,
                                   std::uint32_t usr_len_max) {
  const auto start = load<layout::WriteMessage>(header);  // a read starts with the same two fields
  if (!start) return fail(Errc::protocol_violation);
  if (start->usr_len > offset || start->usr_len > usr_len_max)
    return fail(Errc::protocol_violation);

  IoRequest request;
  request.usr_len = start->usr_len;
  request.data_length = offset - request.usr_len;
  if (start->type == number(RtrsType::write)) return request;
  if (start->type == number(RtrsType::control)) {
    if (offset != 0 || header.size() < sizeof(layout::ControlMessage))
      return fail(Errc::protocol_violation);
    request.control = true;
    return request;
  }
  if (start->type != number(RtrsType::read)) return fail(Errc::protocol_violation);
  request.read = true;
  if (const auto error = parse_read(header, request)) return fail(error);
  return request;
}

layout::ControlMessage encode_control(const Control& control) {
  return {.type = number(RtrsType::control),
          .usr_len = 0,
          .kind = static_cast<std::uint16_t>(control.kind),
          .recon_cnt = control.recon_cnt,
          .path = control.path};
}

Result<Control> parse_control(ByteView header) {
  const auto in = load<layout::ControlMessage>(header);
  if (!in || in->type != number(RtrsType::control)) return fail(Errc::protocol_violation);
  const auto kind = static_cast<ControlKind>(in->kind.value());
  if (kind != ControlKind::hello && kind != ControlKind::fence) return fail_errno(EOPNOTSUPP);
  return Control{.kind = kind, .recon_cnt = in->recon_cnt, .path = in->path};
}

layout::RkeyResponse encode_rkey_response(std::uint16_t chunk, std::uint32_t rkey) {
  return {number(RtrsType::rkey_response), chunk, rkey};
}

Result<std::uint32_t> parse_rkey_response(ByteView bytes, std::uint32_t id) {
  const auto in = load<layout::RkeyResponse>(bytes);
  if (!in) return fail(Errc::protocol_violation);
  if (in->type != number(RtrsType::rkey_response)) return fail(Errc::protocol_violation);
  if (in->chunk != id) return fail(Errc::protocol_violation);
  return in->rkey.value();
}

}  // namespace rnbd::wire
