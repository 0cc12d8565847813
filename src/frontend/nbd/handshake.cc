#include "frontend/nbd/handshake.h"

#include <algorithm>
#include <array>

#include "wire/bytes.h"

namespace rnbd::nbd {

using wire::ByteView;
using wire::NbdOption;
using wire::NbdOptionReply;

namespace {

ByteView text_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

Handshake::Handshake(const ExportDirectory& exports) : exports_(exports) {
  append(wire::bytes_of(wire::encode_nbd_greeting()));
}

std::size_t Handshake::feed(ByteView bytes) {
  if (state_ != State::negotiating || bytes.empty()) return 0;
  if (skip_ > 0) {
    const std::size_t skipped =
        static_cast<std::size_t>(std::min<std::uint64_t>(skip_, bytes.size()));
    skip_ -= skipped;
    return skipped;
  }
  return have_flags_ ? feed_option(bytes) : feed_flags(bytes);
}

std::size_t Handshake::feed_flags(ByteView bytes) {
  if (bytes.size() < sizeof(be32)) return 0;
  const auto flags = wire::parse_nbd_client_flags(bytes.first(sizeof(be32)));
  if (!flags) {
    state_ = State::ended;
    return 0;
  }
  have_flags_ = true;
  no_zeroes_ = flags->no_zeroes;
  return sizeof(be32);
}

std::size_t Handshake::feed_option(ByteView bytes) {
  constexpr std::size_t kHeader = sizeof(wire::layout::NbdOptionHeader);
  if (bytes.size() < kHeader) return 0;
  const auto header = wire::parse_nbd_option_header(bytes.first(kHeader));
  if (!header) {
    state_ = State::ended;
    return 0;
  }
  if (header->length > wire::kNbdOptionLengthMax) {
    if (header->option == NbdOption::export_name) {
      state_ = State::ended;  // this option has no way to say no
      return 0;
    }
    skip_ = header->length;
    reply(header->option, NbdOptionReply::error_too_big);
    return kHeader;
  }
  if (bytes.size() < kHeader + header->length) return 0;
  answer(header->option, bytes.subspan(kHeader, header->length));
  return kHeader + header->length;
}

void Handshake::answer(NbdOption option, ByteView data) {
  switch (option) {
    case NbdOption::export_name:
      return answer_export_name(data);
    case NbdOption::abort:
      reply(option, NbdOptionReply::ack);
      state_ = State::ended;
      return;
    case NbdOption::list:
      return answer_list(data);
    case NbdOption::info:
    case NbdOption::go:
      return answer_info(option, data);
    case NbdOption::structured_reply:
      return answer_structured(data);
    default:
      return reply(option, NbdOptionReply::error_unsupported);
  }
}

void Handshake::answer_export_name(ByteView data) {
  const auto name = wire::parse_nbd_export_name(data);
  if (!name || !exports_.find(*name, structured_, chosen_)) {
    state_ = State::ended;
    return;
  }
  append(
      wire::bytes_of(wire::encode_nbd_export_name(chosen_.geometry.size, chosen_.geometry.flags)));
  if (!no_zeroes_) append(std::array<std::byte, wire::kNbdExportNameZeroes>{});
  state_ = State::transmission;
}

void Handshake::answer_list(ByteView data) {
  if (!data.empty()) return reply(NbdOption::list, NbdOptionReply::error_invalid);
  for (const std::string& name : exports_.names()) {
    std::vector<std::byte> entry;
    const be32 length(static_cast<std::uint32_t>(name.size()));
    const auto bytes = wire::bytes_of(length);
    entry.insert(entry.end(), bytes.begin(), bytes.end());
    entry.insert(entry.end(), text_bytes(name).begin(), text_bytes(name).end());
    reply(NbdOption::list, NbdOptionReply::server, entry);
  }
  reply(NbdOption::list, NbdOptionReply::ack);
}

void Handshake::answer_info(NbdOption option, ByteView data) {
  const auto request = wire::parse_nbd_info_request(data);
  if (!request) {
    return reply(option, request.error() == Errc::too_long ? NbdOptionReply::error_too_big
                                                           : NbdOptionReply::error_invalid);
  }
  ExportInfo info;
  if (!exports_.find(request->name, structured_, info))
    return reply(option, NbdOptionReply::error_unknown);
  send_info(option, info, *request);
  reply(option, NbdOptionReply::ack);
  if (option != NbdOption::go) return;
  chosen_ = std::move(info);
  state_ = State::transmission;
}

void Handshake::answer_structured(ByteView data) {
  if (!data.empty()) return reply(NbdOption::structured_reply, NbdOptionReply::error_invalid);
  structured_ = true;
  reply(NbdOption::structured_reply, NbdOptionReply::ack);
}

// The block sizes are sent unasked as well: requests are held to them.
void Handshake::send_info(NbdOption option, const ExportInfo& info,
                          const wire::NbdInfoRequest& request) {
  const auto& geometry = info.geometry;
  const auto export_info = wire::encode_nbd_info_export(geometry.size, geometry.flags);
  reply(option, NbdOptionReply::info, wire::bytes_of(export_info));
  const auto block_size = wire::encode_nbd_info_block_size(
      geometry.block_size_min, info.block_size_preferred, geometry.payload_max);
  reply(option, NbdOptionReply::info, wire::bytes_of(block_size));
  if (request.wants(wire::NbdInfo::name)) send_info_text(option, wire::NbdInfo::name, info.name);
  if (request.wants(wire::NbdInfo::description) && !info.description.empty()) {
    send_info_text(option, wire::NbdInfo::description, info.description);
  }
}

void Handshake::send_info_text(NbdOption option, wire::NbdInfo type, const std::string& text) {
  std::vector<std::byte> data;
  const be16 number(static_cast<std::uint16_t>(type));
  const auto bytes = wire::bytes_of(number);
  data.insert(data.end(), bytes.begin(), bytes.end());
  data.insert(data.end(), text_bytes(text).begin(), text_bytes(text).end());
  reply(option, NbdOptionReply::info, data);
}

void Handshake::reply(NbdOption option, NbdOptionReply type, ByteView data) {
  const auto header =
      wire::encode_nbd_option_reply(option, type, static_cast<std::uint32_t>(data.size()));
  append(wire::bytes_of(header));
  append(data);
}

}  // namespace rnbd::nbd
