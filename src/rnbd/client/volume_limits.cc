#include "rnbd/client/volume_limits.h"

#include <algorithm>
#include <limits>

#include "wire/rtrs.h"

namespace rnbd::client {
namespace {

// Shown as the limit of what the queue cuts to size itself: far beyond any device, far from
// overflow.
constexpr std::uint64_t kAnyLength = std::uint64_t{1} << 62;

// Bytes of one operation without data; its length travels in 32 bits.
std::uint32_t piece(std::uint32_t sectors, std::uint32_t block_size) {
  const std::uint64_t bytes = std::uint64_t{sectors} << wire::kSectorShift;
  const std::uint64_t most =
      std::min<std::uint64_t>(bytes, std::numeric_limits<std::uint32_t>::max());
  return static_cast<std::uint32_t>(most & ~std::uint64_t{block_size - 1});
}

}  // namespace

std::uint32_t WireLimits::most(block::Op op) const {
  switch (op) {
    case block::Op::read:
    case block::Op::write:
      return max_transfer;
    case block::Op::discard:
      return max_discard;
    case block::Op::secure_erase:
      return max_secure_erase;
    case block::Op::write_zeroes:
      return max_write_zeroes;
    case block::Op::flush:
      return 0;
  }
  return 0;
}

std::error_code check_session(const rtrs::SessionLimits& session) {
  constexpr std::uint32_t kIoSizeMin = 4096;
  // The longest header of ours: an OPEN, the RTRS read message and its one descriptor.
  constexpr std::uint32_t kHeaderMin = sizeof(wire::layout::Open) + wire::kRtrsMessageMax;
  if (session.queue_depth == 0 || session.max_io_size < kIoSizeMin)
    return make_error_code(Errc::bad_geometry);
  return session.max_hdr_size < kHeaderMin ? make_error_code(Errc::bad_geometry)
                                           : std::error_code{};
}

Result<VolumeLimits> volume_limits(const wire::OpenResponse& response,
                                   const rtrs::SessionLimits& session, bool read_only) {
  if (const std::error_code error = check_session(session)) return fail(error);
  const std::uint32_t block = response.logical_block_size;
  VolumeLimits limits;
  limits.wire.block_size = block;
  limits.wire.max_transfer = session.max_io_size & ~(block - 1);
  if (limits.wire.max_transfer == 0) return fail(Errc::bad_geometry);
  limits.wire.max_discard = piece(response.max_discard_sectors, block);
  limits.wire.max_write_zeroes = piece(response.max_write_zeroes_sectors, block);
  if (response.secure_discard != 0) limits.wire.max_secure_erase = limits.wire.max_discard;
  limits.wire.cache = (response.cache_policy & wire::kCacheWriteBack) != 0;
  limits.wire.fua = limits.wire.cache && (response.cache_policy & wire::kCacheFua) != 0;

  block::Limits& shown = limits.shown;
  shown.size = response.nsectors << wire::kSectorShift;
  shown.logical_block_size = block;
  shown.physical_block_size = response.physical_block_size;
  if (limits.wire.max_discard != 0) {
    shown.max_discard = kAnyLength;
    shown.discard_granularity = std::max(response.discard_granularity, block);
    shown.discard_alignment = response.discard_alignment;
  }
  if (limits.wire.max_secure_erase != 0) shown.max_secure_erase = kAnyLength;
  if (limits.wire.max_write_zeroes != 0) shown.max_write_zeroes = kAnyLength;
  shown.volatile_cache = limits.wire.cache;
  shown.fua = true;  // the server's, or ours: write, then flush
  shown.read_only = read_only;
  return limits;
}

std::error_code check_reopened(const block::Limits& before, const block::Limits& now) {
  const bool same_blocks = before.logical_block_size == now.logical_block_size;
  const bool new_cache = now.volatile_cache && !before.volatile_cache;
  if (!same_blocks || new_cache || now.size < before.size)
    return make_error_code(Errc::bad_geometry);
  return {};
}

}  // namespace rnbd::client
