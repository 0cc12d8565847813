#include "frontend/nbd/export_info.h"

#include <algorithm>
#include <utility>

namespace rnbd::nbd {
namespace {

std::uint16_t transmission_flags(const block::Limits& limits, const Announce& announce) {
  unsigned flags =
      wire::kNbdHasFlags | wire::kNbdSendFlush | wire::kNbdSendFua | wire::kNbdCanMultiConn;
  if (limits.read_only || announce.read_only) flags |= wire::kNbdReadOnly;
  if (limits.max_discard > 0) flags |= wire::kNbdSendTrim;
  if (limits.max_write_zeroes > 0) flags |= wire::kNbdSendWriteZeroes;
  if (announce.structured) flags |= wire::kNbdSendDf;
  return static_cast<std::uint16_t>(flags);
}

}  // namespace

ExportInfo describe(std::string name, std::string description, const block::Limits& limits,
                    Announce announce) {
  ExportInfo info;
  info.name = std::move(name);
  info.description = std::move(description);
  info.geometry.size = limits.size;
  info.geometry.flags = transmission_flags(limits, announce);
  info.geometry.block_size_min = limits.logical_block_size;
  info.geometry.payload_max = std::min(announce.payload_max, wire::kNbdPayloadMax);
  info.block_size_preferred =
      std::min(std::max({4096U, limits.logical_block_size, limits.physical_block_size}),
               info.geometry.payload_max);
  return info;
}

}  // namespace rnbd::nbd
