#pragma once
// One request as the ublk driver describes it, as one for a block::Queue. Pure, data path.

#include <cerrno>
#include <cstdint>

#include "base/error.h"
#include "block/request.h"
#include "frontend/ublk/abi.h"

namespace rnbd::ublk {

// Fills operation, flags, place and length. EOPNOTSUPP for an operation that no block::Device has,
// EIO for one longer than `io_bytes` where data moves.
inline std::error_code translate(const ublksrv_io_desc& io, std::uint32_t io_bytes,
                                 block::Request& request) {
  using abi::IoOperation;
  request.flags = block::kNoFlags;
  request.offset = io.start_sector << abi::kSectorShift;
  request.length = std::uint64_t{io.nr_sectors} << abi::kSectorShift;
  switch (static_cast<IoOperation>(io.op_flags & 0xffU)) {
    case IoOperation::read:
      request.op = block::Op::read;
      return request.length <= io_bytes ? std::error_code{} : from_errno(EIO);
    case IoOperation::write:
      request.op = block::Op::write;
      if ((io.op_flags & abi::kIoFua) != 0) request.flags = block::kFua;
      return request.length <= io_bytes ? std::error_code{} : from_errno(EIO);
    case IoOperation::flush:
      request.op = block::Op::flush;
      request.offset = request.length = 0;
      return {};
    case IoOperation::discard:
      request.op = block::Op::discard;
      return {};
    case IoOperation::write_zeroes:
      request.op = block::Op::write_zeroes;
      if ((io.op_flags & abi::kIoFua) != 0) request.flags = block::kFua;
      if ((io.op_flags & abi::kIoNoUnmap) != 0) request.flags |= block::kNoUnmap;
      return {};
    case IoOperation::write_same:
      break;
  }
  return from_errno(EOPNOTSUPP);
}

// What the driver gets for a finished request: bytes moved, or a negative errno.
inline std::int32_t commit_value(const block::Request& request) {
  if (request.result) return -to_errno(request.result);
  return block::carries_data(request.op) ? static_cast<std::int32_t>(request.length) : 0;
}

}  // namespace rnbd::ublk
