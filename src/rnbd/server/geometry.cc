#include "rnbd/server/geometry.h"

#include <algorithm>
#include <cerrno>
#include <limits>

namespace rnbd::server {
namespace {

// An operation's length travels in 32 bits of bytes, so more sectors than that allows are of no
// use, whatever the block size; the kernel's own ceiling is the same.
constexpr std::uint32_t kMaxSectors =
    std::numeric_limits<std::uint32_t>::max() >> wire::kSectorShift;

std::uint32_t sectors(std::uint64_t bytes, std::uint32_t block_size) {
  const std::uint64_t whole =
      std::min<std::uint64_t>(bytes, std::uint64_t{kMaxSectors} << wire::kSectorShift);
  return static_cast<std::uint32_t>(whole / block_size * block_size >> wire::kSectorShift);
}

}  // namespace

Result<wire::OpenResponse> describe(const block::Limits& limits, std::uint32_t device_id,
                                    const GeometryOptions& options) {
  constexpr std::uint32_t kMaxBlock = 32768;
  const std::uint32_t block = limits.logical_block_size;
  if (block < wire::kSectorSize || block > kMaxBlock || options.max_io_size < block)
    return fail_errno(EINVAL);

  wire::OpenResponse response;
  response.device_id = device_id;
  response.nsectors = limits.size / block * block >> wire::kSectorShift;
  const std::uint32_t transfer =
      limits.max_transfer == 0 ? options.max_io_size : limits.max_transfer;
  response.max_hw_sectors = sectors(std::min(transfer, options.max_io_size), block);
  response.logical_block_size = static_cast<std::uint16_t>(block);
  response.physical_block_size =
      static_cast<std::uint16_t>(std::clamp(limits.physical_block_size, block, kMaxBlock));
  response.max_segments =
      static_cast<std::uint16_t>(std::min<std::uint32_t>(limits.max_segments, 0xffff));
  if (options.offer_write_zeroes)
    response.max_write_zeroes_sectors = sectors(limits.max_write_zeroes, block);
  response.max_discard_sectors = sectors(limits.max_discard, block);
  if (response.max_discard_sectors != 0) {
    response.discard_granularity = std::max(limits.discard_granularity, block);
    response.discard_alignment = limits.discard_alignment;
    // A client takes the discard limit for secure erase as well.
    const std::uint64_t most = std::uint64_t{response.max_discard_sectors} << wire::kSectorShift;
    response.secure_discard = limits.max_secure_erase >= most ? 1 : 0;
  }
  if (limits.volatile_cache) response.cache_policy |= wire::kCacheWriteBack;
  if (limits.fua) response.cache_policy |= wire::kCacheFua;
  return response;
}

}  // namespace rnbd::server
