#pragma once
// MPA start-up frames: RFC 5044 section 7.1.1, with the enhanced block of RFC 6581 section 6.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/endian.h"
#include "base/error.h"

namespace rnbd::wire {

inline constexpr std::size_t kMpaHeaderSize = 20;
inline constexpr std::size_t kMpaPrivateDataMax = 512;
inline constexpr std::size_t kMpaFrameMax = kMpaHeaderSize + kMpaPrivateDataMax;
inline constexpr std::size_t kMpaEnhancedSize = 4;
// What we put behind the enhanced block at most: Linux siw takes 256 bytes in all.
inline constexpr std::size_t kMpaUserDataMax = 252;
inline constexpr std::uint16_t kMpaDepthMax = 0x3fff;  // as IRD or ORD: "the user decides"

struct MpaHeader {
  std::array<char, 16> key;
  std::uint8_t flags;
  std::uint8_t revision;
  be16 private_data_length;  // with the enhanced block
};
static_assert(WireStruct<MpaHeader, kMpaHeaderSize>);
static_assert(offsetof(MpaHeader, flags) == 16);
static_assert(offsetof(MpaHeader, private_data_length) == 18);

enum class MpaKind : std::uint8_t { request, reply };

// A frame in fields. Reserved bits are zero when built and ignored when parsed.
struct MpaFrame {
  MpaKind kind = MpaKind::request;
  bool markers = false;
  bool crc = false;
  bool rejected = false;
  bool enhanced = false;
  std::uint8_t revision = 2;
  // The enhanced block; meaningless without `enhanced`.
  bool peer_to_peer = false;                  // A
  bool send_first = false;                    // B: a zero-length Send may be the first message
  bool write_first = false;                   // C: a zero-length Write may be
  bool read_first = false;                    // D: a zero-length Read may be
  std::uint16_t read_depth_in = 0;            // IRD
  std::uint16_t read_depth_out = 0;           // ORD
  std::span<const std::byte> user_data = {};  // behind the block; borrowed
};

// Bytes written to `out`. user_data must fit.
std::size_t build_mpa_frame(const MpaFrame& frame, std::span<std::byte, kMpaFrameMax> out);

// Collects one frame from a stream, never asking for a byte beyond it.
class MpaReader {
 public:
  explicit MpaReader(MpaKind expected) : expected_(expected) {}
  // Where the next bytes go; empty when the frame is complete. At most so many may be read.
  std::span<std::byte> wanted();
  // Errc::framing_error as soon as the bytes cannot be a frame of the expected kind.
  std::error_code received(std::size_t bytes);
  bool complete() const { return size_ >= kMpaHeaderSize && size_ == total_; }
  bool empty() const { return size_ == 0; }
  // The parsed frame, once complete; its user_data points into this object.
  MpaFrame frame() const;

 private:
  std::error_code check_header() const;
  MpaHeader header() const;
  MpaKind expected_;
  std::size_t size_ = 0;
  std::size_t total_ = kMpaHeaderSize;
  std::array<std::byte, kMpaFrameMax> bytes_{};
};

}  // namespace rnbd::wire
