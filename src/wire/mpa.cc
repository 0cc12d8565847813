#include "wire/mpa.h"

#include <algorithm>

#include "base/assert.h"

namespace rnbd::wire {
namespace {

constexpr std::array<char, 16> kRequestKey = {'M', 'P', 'A', ' ', 'I', 'D', ' ', 'R',
                                              'e', 'q', ' ', 'F', 'r', 'a', 'm', 'e'};
constexpr std::array<char, 16> kReplyKey = {'M', 'P', 'A', ' ', 'I', 'D', ' ', 'R',
                                            'e', 'p', ' ', 'F', 'r', 'a', 'm', 'e'};
constexpr std::uint8_t kMarkers = 0x80, kCrc = 0x40, kRejected = 0x20, kEnhanced = 0x10;
constexpr unsigned kHighBit = 0x8000, kLowBit = 0x4000;
constexpr std::uint8_t kRevisionMin = 1, kRevisionMax = 2;

const std::array<char, 16>& key_of(MpaKind kind) {
  return kind == MpaKind::request ? kRequestKey : kReplyKey;
}

std::uint16_t word(bool high, bool low, std::uint16_t depth) {
  return static_cast<std::uint16_t>((high ? kHighBit : 0U) | (low ? kLowBit : 0U) |
                                    (depth & unsigned{kMpaDepthMax}));
}

}  // namespace

std::size_t build_mpa_frame(const MpaFrame& frame, std::span<std::byte, kMpaFrameMax> out) {
  const std::size_t block = frame.enhanced ? kMpaEnhancedSize : 0;
  RNBD_ASSERT(block + frame.user_data.size() <= kMpaPrivateDataMax);
  MpaHeader header{};
  header.key = key_of(frame.kind);
  header.flags = static_cast<std::uint8_t>(
      (frame.markers ? kMarkers : 0U) | (frame.crc ? kCrc : 0U) |
      (frame.rejected ? kRejected : 0U) | (frame.enhanced ? kEnhanced : 0U));
  header.revision = frame.revision;
  header.private_data_length = static_cast<std::uint16_t>(block + frame.user_data.size());
  std::memcpy(out.data(), &header, sizeof(header));
  std::size_t size = sizeof(header);
  if (frame.enhanced) {
    const std::array<be16, 2> words = {
        word(frame.peer_to_peer, frame.send_first, frame.read_depth_in),
        word(frame.write_first, frame.read_first, frame.read_depth_out)};
    std::memcpy(out.data() + size, words.data(), sizeof(words));
    size += sizeof(words);
  }
  std::ranges::copy(frame.user_data, out.begin() + static_cast<std::ptrdiff_t>(size));
  return size + frame.user_data.size();
}

MpaHeader MpaReader::header() const {
  MpaHeader header;
  std::memcpy(&header, bytes_.data(), sizeof(header));
  return header;
}

std::span<std::byte> MpaReader::wanted() {
  return std::span(bytes_).subspan(size_, total_ - size_);
}

std::error_code MpaReader::received(std::size_t bytes) {
  RNBD_ASSERT(bytes <= total_ - size_);
  size_ += bytes;
  const std::size_t key_bytes = std::min(size_, kRequestKey.size());
  if (std::memcmp(bytes_.data(), key_of(expected_).data(), key_bytes) != 0)
    return Errc::framing_error;
  if (total_ != kMpaHeaderSize || size_ < kMpaHeaderSize) return {};
  if (const auto error = check_header()) return error;
  total_ += header().private_data_length;
  return {};
}

std::error_code MpaReader::check_header() const {
  const MpaHeader h = header();
  if (h.revision < kRevisionMin || h.revision > kRevisionMax) return Errc::framing_error;
  if (h.private_data_length > kMpaPrivateDataMax) return Errc::framing_error;
  const bool enhanced = (h.flags & kEnhanced) != 0;
  if (enhanced && h.private_data_length < kMpaEnhancedSize) return Errc::framing_error;
  return {};
}

MpaFrame MpaReader::frame() const {
  RNBD_ASSERT(complete());
  const MpaHeader h = header();
  MpaFrame frame;
  frame.kind = expected_;
  frame.markers = (h.flags & kMarkers) != 0;
  frame.crc = (h.flags & kCrc) != 0;
  frame.rejected = (h.flags & kRejected) != 0 && expected_ == MpaKind::reply;
  frame.enhanced = (h.flags & kEnhanced) != 0;
  frame.revision = h.revision;
  frame.user_data = std::span(bytes_).subspan(kMpaHeaderSize, total_ - kMpaHeaderSize);
  if (!frame.enhanced) return frame;
  std::array<be16, 2> words;
  std::memcpy(words.data(), frame.user_data.data(), sizeof(words));
  frame.user_data = frame.user_data.subspan(kMpaEnhancedSize);
  frame.peer_to_peer = (words[0] & kHighBit) != 0;
  frame.send_first = (words[0] & kLowBit) != 0;
  frame.read_depth_in = words[0] & kMpaDepthMax;
  frame.write_first = (words[1] & kHighBit) != 0;
  frame.read_first = (words[1] & kLowBit) != 0;
  frame.read_depth_out = words[1] & kMpaDepthMax;
  return frame;
}

}  // namespace rnbd::wire
