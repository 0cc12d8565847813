#include "wire/nbd.h"

#include <algorithm>
#include <cerrno>

namespace rnbd::wire {

namespace {

std::string_view text_of(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

layout::NbdChunkHeader chunk_header(std::uint64_t cookie, NbdChunk type, std::size_t length,
                                    bool last) {
  return {kNbdStructuredReplyMagic, last ? kNbdChunkDone : std::uint16_t{0},
          static_cast<std::uint16_t>(type), cookie, static_cast<std::uint32_t>(length)};
}

constexpr std::uint16_t flag_if(bool condition, std::uint16_t flag) {
  return condition ? flag : std::uint16_t{0};
}

// The command flags a request may carry, given what was announced.
std::uint16_t allowed_flags(const NbdRequest& request, std::uint16_t announced) {
  unsigned allowed = flag_if((announced & kNbdSendFua) != 0, kNbdCommandFua);  // on any command
  if (request.command == NbdCommand::read) {
    allowed |= flag_if((announced & kNbdSendDf) != 0, kNbdCommandDf);
  }
  if (request.command == NbdCommand::write_zeroes) {
    allowed |= kNbdCommandNoHole;
    allowed |= flag_if((announced & kNbdSendFastZero) != 0, kNbdCommandFastZero);
  }
  return static_cast<std::uint16_t>(allowed);
}

bool announced(NbdCommand command, std::uint16_t flags) {
  switch (command) {
    case NbdCommand::read:
    case NbdCommand::write:
      return true;
    case NbdCommand::flush:
      return (flags & kNbdSendFlush) != 0;
    case NbdCommand::trim:
      return (flags & kNbdSendTrim) != 0;
    case NbdCommand::cache:
      return (flags & kNbdSendCache) != 0;
    case NbdCommand::write_zeroes:
      return (flags & kNbdSendWriteZeroes) != 0;
    case NbdCommand::disconnect:
    case NbdCommand::block_status:
      break;
  }
  return false;
}

}  // namespace

NbdError nbd_error(const std::error_code& error) {
  if (!error) return NbdError::none;
  switch (to_errno(error)) {
    case EPERM:
    case EACCES:
    case EROFS:
      return NbdError::perm;
    case ENOMEM:
      return NbdError::nomem;
    case EINVAL:
      return NbdError::inval;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return NbdError::nospc;
    case EOVERFLOW:
      return NbdError::overflow;
    case EOPNOTSUPP:
      return NbdError::notsup;
    case ESHUTDOWN:
      return NbdError::shutdown;
    default:
      return NbdError::io;
  }
}

layout::NbdGreeting encode_nbd_greeting() {
  return {kNbdMagic, kNbdOptionMagic, std::uint16_t{kNbdFixedNewstyle | kNbdNoZeroes}};
}

Result<NbdClientFlags> parse_nbd_client_flags(ByteView bytes) {
  const auto flags = load<be32>(bytes);
  if (!flags || (*flags & kNbdFixedNewstyle) == 0) return fail(Errc::protocol_violation);
  if ((*flags & ~std::uint32_t{kNbdFixedNewstyle | kNbdNoZeroes}) != 0) {
    return fail(Errc::protocol_violation);
  }
  return NbdClientFlags{(*flags & kNbdNoZeroes) != 0};
}

Result<NbdOptionHeader> parse_nbd_option_header(ByteView bytes) {
  const auto in = load<layout::NbdOptionHeader>(bytes);
  if (!in || in->magic != kNbdOptionMagic) return fail(Errc::protocol_violation);
  return NbdOptionHeader{static_cast<NbdOption>(in->option.value()), in->length};
}

bool NbdInfoRequest::wants(NbdInfo info) const {
  return std::find(wanted.begin(), wanted.end(), info) != wanted.end();
}

Result<NbdInfoRequest> parse_nbd_info_request(ByteView data) {
  Reader reader(data);
  const auto name_length = reader.take<be32>();
  if (!name_length) return fail(Errc::protocol_violation);
  if (*name_length > kNbdNameMax) return fail(Errc::too_long);
  const auto name = reader.take_bytes(*name_length);
  const auto count = reader.take<be16>();
  if (!name || !count) return fail(Errc::protocol_violation);
  if (reader.rest().size() != *count * sizeof(be16)) return fail(Errc::protocol_violation);

  NbdInfoRequest request{text_of(*name), {}};
  if (request.name.find('\0') != std::string_view::npos) return fail(Errc::protocol_violation);
  request.wanted.reserve(*count);
  while (const auto info = reader.take<be16>()) {
    request.wanted.push_back(static_cast<NbdInfo>(info->value()));
  }
  return request;
}

Result<std::string_view> parse_nbd_export_name(ByteView data) {
  if (data.size() > kNbdNameMax) return fail(Errc::too_long);
  const auto name = text_of(data);
  if (name.find('\0') != std::string_view::npos) return fail(Errc::protocol_violation);
  return name;
}

layout::NbdOptionReplyHeader encode_nbd_option_reply(NbdOption option, NbdOptionReply type,
                                                     std::uint32_t length) {
  return {kNbdOptionReplyMagic, static_cast<std::uint32_t>(option),
          static_cast<std::uint32_t>(type), length};
}

layout::NbdExportName encode_nbd_export_name(std::uint64_t size, std::uint16_t flags) {
  return {size, flags};
}

layout::NbdInfoExport encode_nbd_info_export(std::uint64_t size, std::uint16_t flags) {
  return {static_cast<std::uint16_t>(NbdInfo::export_), size, flags};
}

layout::NbdInfoBlockSize encode_nbd_info_block_size(std::uint32_t minimum, std::uint32_t preferred,
                                                    std::uint32_t maximum) {
  return {static_cast<std::uint16_t>(NbdInfo::block_size), minimum, preferred, maximum};
}

Result<NbdRequest> parse_nbd_request(ByteView bytes) {
  const auto in = load<layout::NbdRequest>(bytes);
  if (!in || in->magic != kNbdRequestMagic) return fail(Errc::protocol_violation);
  return NbdRequest{
      .command = static_cast<NbdCommand>(in->type.value()),
      .flags = in->flags,
      .cookie = in->cookie,
      .offset = in->offset,
      .length = in->length,
  };
}

std::error_code check_nbd_request(const NbdRequest& request, const NbdExport& on) {
  if (!announced(request.command, on.flags)) return from_errno(EINVAL);
  if ((request.flags & ~allowed_flags(request, on.flags)) != 0) return from_errno(EINVAL);
  if (request.command == NbdCommand::flush) return {};  // offset and length mean nothing

  const bool reads = request.command == NbdCommand::read || request.command == NbdCommand::cache;
  const bool writes =
      request.command == NbdCommand::write || request.command == NbdCommand::write_zeroes;
  const bool payload = request.command == NbdCommand::read || request.command == NbdCommand::write;
  if (!reads && (on.flags & kNbdReadOnly) != 0) return from_errno(EPERM);
  if (payload && request.length > on.payload_max) return from_errno(EOVERFLOW);
  if ((request.offset | request.length) % on.block_size_min != 0) return from_errno(EINVAL);
  if (request.offset > on.size || request.length > on.size - request.offset) {
    return from_errno(writes ? ENOSPC : EINVAL);
  }
  return {};
}

layout::NbdSimpleReply encode_nbd_simple_reply(std::uint64_t cookie, NbdError error) {
  return {kNbdSimpleReplyMagic, static_cast<std::uint32_t>(error), cookie};
}

layout::NbdChunkHeader encode_nbd_done_chunk(std::uint64_t cookie) {
  return chunk_header(cookie, NbdChunk::none, 0, true);
}

layout::NbdErrorChunk encode_nbd_error_chunk(std::uint64_t cookie, NbdError error) {
  constexpr std::size_t kPayload = sizeof(layout::NbdErrorChunk) - sizeof(layout::NbdChunkHeader);
  return {chunk_header(cookie, NbdChunk::error, kPayload, true), static_cast<std::uint32_t>(error),
          0};
}

layout::NbdOffsetDataChunk encode_nbd_data_chunk(std::uint64_t cookie, std::uint64_t offset,
                                                 std::uint32_t length, bool last) {
  RNBD_ASSERT(length != 0);
  RNBD_ASSERT(length <= UINT32_MAX - sizeof(be64));
  return {chunk_header(cookie, NbdChunk::offset_data, sizeof(be64) + length, last), offset};
}

layout::NbdOffsetHoleChunk encode_nbd_hole_chunk(std::uint64_t cookie, std::uint64_t offset,
                                                 std::uint32_t length, bool last) {
  RNBD_ASSERT(length != 0);
  return {chunk_header(cookie, NbdChunk::offset_hole, sizeof(be64) + sizeof(be32), last), offset,
          length};
}

}  // namespace rnbd::wire
