// MPA start-up frames, request and reply, in pieces: the first byte chooses kind and piece size.

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "wire/mpa.h"

using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const MpaKind kind = (data[0] & 1) != 0 ? MpaKind::reply : MpaKind::request;
  const std::size_t step = 1U + (data[0] >> 1);
  std::span<const std::byte> rest = std::as_bytes(std::span(data, size)).subspan(1);
  MpaReader reader(kind);
  while (!reader.complete() && !rest.empty()) {
    const auto room = reader.wanted();
    RNBD_ASSERT(!room.empty());
    const std::size_t n = std::min({room.size(), rest.size(), step});
    std::memcpy(room.data(), rest.data(), n);
    rest = rest.subspan(n);
    if (reader.received(n)) return 0;
  }
  if (!reader.complete()) return 0;
  // What was read can be built and read again, and says the same.
  const MpaFrame frame = reader.frame();
  std::array<std::byte, kMpaFrameMax> built;
  const std::size_t length = build_mpa_frame(frame, built);
  MpaReader again(kind);
  for (std::size_t at = 0; at < length;) {
    const auto room = again.wanted();
    RNBD_ASSERT(!room.empty() && room.size() <= length - at);
    std::memcpy(room.data(), built.data() + at, room.size());
    at += room.size();
    RNBD_ASSERT(!again.received(room.size()));
  }
  RNBD_ASSERT(again.complete());
  RNBD_ASSERT(again.frame().user_data.size() == frame.user_data.size());
  RNBD_ASSERT(again.frame().crc == frame.crc && again.frame().rejected == frame.rejected);
  return 0;
}
