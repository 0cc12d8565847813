#include "wire/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>
#include <climits>

namespace rnbd::wire {

void Crc32c::update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const std::size_t n = std::min<std::size_t>(bytes.size(), INT_MAX);
    // crc32_iscsi() only reads, its prototype forgot to say so; it neither presets nor inverts.
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data()));
    state_ = crc32_iscsi(data, static_cast<int>(n), state_);
    bytes = bytes.subspan(n);
  }
}

}  // namespace rnbd::wire
