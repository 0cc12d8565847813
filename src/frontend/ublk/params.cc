#include "frontend/ublk/params.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>

namespace rnbd::ublk {
namespace {

std::uint32_t page_size() { return static_cast<std::uint32_t>(::sysconf(_SC_PAGESIZE)); }

std::uint8_t shift_of(std::uint32_t power_of_two) {
  return static_cast<std::uint8_t>(std::countr_zero(power_of_two));
}

// A range's greatest length in sectors, in whole granules: the driver counts in 32 bits.
std::uint32_t sectors(std::uint64_t bytes, std::uint32_t granularity) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  const std::uint64_t granule = std::max<std::uint64_t>(granularity >> abi::kSectorShift, 1);
  const std::uint64_t most = std::min(bytes >> abi::kSectorShift, kMost);
  return static_cast<std::uint32_t>(most / granule * granule);
}

}  // namespace

std::uint32_t io_buffer_bytes(const block::Limits& limits, std::uint32_t wanted) {
  const std::uint32_t page = page_size();
  const std::uint32_t granule = std::max(page, limits.logical_block_size);
  std::uint32_t most = std::max(wanted, granule);
  if (limits.max_transfer != 0) most = std::min(most, limits.max_transfer);
  return most / granule * granule;
}

Outcome<ublk_params> device_params(const block::Limits& limits, std::uint32_t io_bytes) {
  const std::string doing = "make a ublk device of it";
  if (limits.logical_block_size > page_size())
    return tl::unexpected(Failure{from_errno(EINVAL),
                                  "cannot " + doing + ": its blocks of " +
                                      std::to_string(limits.logical_block_size) +
                                      " bytes are larger than a page",
                                  "frontend nbd has no such limit"});
  if (io_bytes == 0)
    return tl::unexpected(Failure{from_errno(EINVAL),
                                  "cannot " + doing + ": it takes " +
                                      std::to_string(limits.max_transfer) +
                                      " bytes at once, less than a page",
                                  "the frontends loop and nbd have no such limit"});
  const std::uint32_t physical = std::max(limits.physical_block_size, limits.logical_block_size);
  ublk_params params{};
  params.len = sizeof params;
  params.types = abi::kParamBasic;
  if (limits.read_only) params.basic.attrs |= abi::kAttrReadOnly;
  if (limits.volatile_cache) params.basic.attrs |= abi::kAttrVolatileCache;
  if (limits.volatile_cache && limits.fua) params.basic.attrs |= abi::kAttrFua;
  params.basic.logical_bs_shift = shift_of(limits.logical_block_size);
  params.basic.physical_bs_shift = shift_of(physical);
  params.basic.io_min_shift = shift_of(physical);
  params.basic.io_opt_shift = shift_of(physical);
  params.basic.max_sectors = io_bytes >> abi::kSectorShift;
  params.basic.dev_sectors = limits.size >> abi::kSectorShift;
  if (limits.read_only || (limits.max_discard == 0 && limits.max_write_zeroes == 0)) return params;
  params.types |= abi::kParamDiscard;
  const std::uint32_t granularity =
      std::max(limits.discard_granularity, limits.logical_block_size);  // the driver wants one
  params.discard.discard_granularity = granularity;
  params.discard.discard_alignment = limits.discard_alignment;
  params.discard.max_discard_sectors = sectors(limits.max_discard, granularity);
  params.discard.max_write_zeroes_sectors =
      sectors(limits.max_write_zeroes, limits.logical_block_size);
  params.discard.max_discard_segments = 1;
  return params;
}

std::string mismatch(const ublk_params& running, const block::Limits& limits) {
  const std::uint32_t block = 1U << running.basic.logical_bs_shift;
  if (block != limits.logical_block_size)
    return "its blocks are " + std::to_string(limits.logical_block_size) + " bytes, were " +
           std::to_string(block);
  const std::uint64_t longest = std::uint64_t{running.basic.max_sectors} << abi::kSectorShift;
  if (limits.max_transfer != 0 && limits.max_transfer < longest)
    return "it takes " + std::to_string(limits.max_transfer) + " bytes at once, took " +
           std::to_string(longest);
  if (limits.read_only && (running.basic.attrs & abi::kAttrReadOnly) == 0)
    return "it is read-only now";
  const bool had_cache = (running.basic.attrs & abi::kAttrVolatileCache) != 0;
  if (limits.volatile_cache && !had_cache)
    return "its writes may be lost at power failure now, and nobody would flush";
  return {};
}

}  // namespace rnbd::ublk
