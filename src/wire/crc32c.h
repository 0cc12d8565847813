#pragma once
// CRC32C (Castagnoli) as MPA uses it: RFC 5044 section 4.4. Hardware speed through ISA-L.

#include <cstdint>
#include <span>

namespace rnbd::wire {

// Piece by piece: update() in order, value() at any time.
class Crc32c {
 public:
  void reset() { state_ = 0xffffffffU; }
  void update(std::span<const std::byte> bytes);
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xffffffffU;
};

inline std::uint32_t crc32c(std::span<const std::byte> bytes) {
  Crc32c crc;
  crc.update(bytes);
  return crc.value();
}

}  // namespace rnbd::wire
