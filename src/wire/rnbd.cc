#include "wire/rnbd.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>

namespace rnbd::wire {

namespace {

layout::RnbdHeader header_of(RnbdType type) { return {static_cast<std::uint16_t>(type), 0}; }

Result<RnbdMessage> parse_session_info(ByteView bytes) {
  const auto in = load<layout::SessionInfo>(bytes);
  if (!in) return fail_errno(EINVAL);
  return SessionInfo{in->version};
}

Result<RnbdMessage> parse_open(ByteView bytes) {
  const auto in = load<layout::Open>(bytes);
  if (!in) return fail_errno(EINVAL);
  if (in->access_mode > static_cast<std::uint8_t>(AccessMode::migration)) return fail_errno(EINVAL);
  const ByteView field = bytes.subspan(offsetof(layout::Open, device_name), in->device_name.size());
  const auto end = std::find(field.begin(), field.end(), std::byte{0});
  if (end == field.end() || end == field.begin()) return fail_errno(EINVAL);
  const auto* name = reinterpret_cast<const char*>(field.data());
  return Open{static_cast<AccessMode>(in->access_mode),
              std::string_view(name, static_cast<std::size_t>(end - field.begin()))};
}

Result<RnbdMessage> parse_io(ByteView bytes) {
  if (bytes.size() < layout::kIoSizeV1) return fail_errno(EINVAL);
  layout::Io in{};
  const bool has_priority = bytes.size() >= sizeof(in);
  std::memcpy(&in, bytes.data(), has_priority ? sizeof(in) : layout::kIoSizeV1);
  const std::uint32_t op = in.rw & 0xff;
  if (op > static_cast<std::uint32_t>(IoOp::write_zeroes)) return fail_errno(EOPNOTSUPP);
  return Io{
      .device_id = in.device_id,
      .op = static_cast<IoOp>(op),
      .flags = in.rw & ~std::uint32_t{0xff},
      .sector = in.sector,
      .length = in.bi_size,
      .priority = in.priority,
  };
}

Result<RnbdMessage> parse_close(ByteView bytes) {
  const auto in = load<layout::Close>(bytes);
  if (!in) return fail_errno(EINVAL);
  return Close{in->device_id};
}

}  // namespace

const char* access_mode_name(AccessMode mode) {
  switch (mode) {
    case AccessMode::ro:
      return "ro";
    case AccessMode::rw:
      return "rw";
    case AccessMode::migration:
      return "migration";
  }
  return "unknown";
}

layout::SessionInfo encode(const SessionInfo& message) {
  layout::SessionInfo out{};
  out.header = header_of(RnbdType::session_info);
  out.version = message.version;
  return out;
}

layout::Open encode(const Open& message) {
  RNBD_ASSERT(valid_device_name(message.device_name));
  layout::Open out{};
  out.header = header_of(RnbdType::open);
  out.access_mode = static_cast<std::uint8_t>(message.access_mode);
  std::copy(message.device_name.begin(), message.device_name.end(), out.device_name.begin());
  return out;
}

layout::Io encode(const Io& message) {
  layout::Io out{};
  out.header = header_of(RnbdType::io);
  out.device_id = message.device_id;
  out.sector = message.sector;
  out.rw = message.flags | static_cast<std::uint32_t>(message.op);
  out.bi_size = message.length;
  out.priority = message.priority;
  return out;
}

layout::Close encode(const Close& message) {
  layout::Close out{};
  out.header = header_of(RnbdType::close);
  out.device_id = message.device_id;
  return out;
}

bool valid_device_name(std::string_view name) {
  return !name.empty() && name.size() <= kDeviceNameMax &&
         name.find('\0') == std::string_view::npos;
}

Result<RnbdMessage> parse_rnbd_message(ByteView bytes) {
  const auto header = load<layout::RnbdHeader>(bytes);
  if (!header) return fail_errno(EINVAL);
  switch (static_cast<RnbdType>(header->type.value())) {
    case RnbdType::io:
      return parse_io(bytes);
    case RnbdType::session_info:
      return parse_session_info(bytes);
    case RnbdType::open:
      return parse_open(bytes);
    case RnbdType::close:
      return parse_close(bytes);
    case RnbdType::session_info_response:
    case RnbdType::open_response:
      break;  // ours to send
  }
  return fail_errno(EINVAL);
}

std::error_code check_io(const Io& io, const Carriage& carriage) {
  switch (io.op) {
    case IoOp::read:
      if (!carriage.read || carriage.reply_length != io.length) return from_errno(EINVAL);
      if (carriage.data_length != io.length) return from_errno(EINVAL);
      return {};
    case IoOp::write:
      if (carriage.read || carriage.data_length != io.length) return from_errno(EINVAL);
      return {};
    case IoOp::write_zeroes:
      if (carriage.data_length != 0 && !carriage.read) return from_errno(EOPNOTSUPP);
      break;
    case IoOp::flush:
    case IoOp::discard:
    case IoOp::secure_erase:
      break;
  }
  if (carriage.data_length != 0 || carriage.reply_length != 0) return from_errno(EINVAL);
  return {};
}

layout::SessionInfo encode_session_info_response(std::uint8_t version) {
  layout::SessionInfo out{};
  out.header = header_of(RnbdType::session_info_response);
  out.version = version;
  return out;
}

layout::OpenResponse encode(const OpenResponse& response) {
  layout::OpenResponse out{};
  out.header = header_of(RnbdType::open_response);
  out.device_id = response.device_id;
  out.nsectors = response.nsectors;
  out.max_hw_sectors = response.max_hw_sectors;
  out.max_write_zeroes_sectors = response.max_write_zeroes_sectors;
  out.max_discard_sectors = response.max_discard_sectors;
  out.discard_granularity = response.discard_granularity;
  out.discard_alignment = response.discard_alignment;
  out.physical_block_size = response.physical_block_size;
  out.logical_block_size = response.logical_block_size;
  out.max_segments = response.max_segments;
  out.secure_discard = response.secure_discard;
  out.cache_policy = response.cache_policy;
  out.cache_identity = response.cache_identity;
  return out;
}

Result<std::uint8_t> parse_session_info_response(ByteView bytes) {
  const auto in = load<layout::SessionInfo>(bytes);
  if (!in || in->version == 0) return fail(Errc::protocol_violation);
  return std::min(in->version, kRnbdVersion);
}

Result<OpenResponse> parse_open_response(ByteView bytes) {
  const auto in = load<layout::OpenResponse>(bytes);
  if (!in) return fail(Errc::protocol_violation);
  if (in->header.type != static_cast<std::uint16_t>(RnbdType::open_response)) {
    return fail(Errc::protocol_violation);
  }
  const std::uint16_t block = in->logical_block_size;
  if (block < kSectorSize || !std::has_single_bit(block)) return fail(Errc::bad_geometry);
  constexpr std::uint64_t kSectorsMax = std::numeric_limits<std::int64_t>::max() >> kSectorShift;
  if (in->nsectors > kSectorsMax) return fail(Errc::bad_geometry);
  if (in->nsectors % (block >> kSectorShift) != 0) return fail(Errc::bad_geometry);

  const std::uint16_t physical = in->physical_block_size;
  const bool physical_sane = std::has_single_bit(physical) && physical >= block;
  return OpenResponse{
      .device_id = in->device_id,
      .nsectors = in->nsectors,
      .max_hw_sectors = in->max_hw_sectors,
      .max_write_zeroes_sectors = in->max_write_zeroes_sectors,
      .max_discard_sectors = in->max_discard_sectors,
      .discard_granularity = in->discard_granularity,
      .discard_alignment = in->discard_alignment,
      .physical_block_size = physical_sane ? physical : block,
      .logical_block_size = block,
      .max_segments = in->max_segments,
      .secure_discard = in->secure_discard,
      .cache_policy = in->cache_policy,
      .cache_identity = in->cache_identity,
  };
}

}  // namespace rnbd::wire
