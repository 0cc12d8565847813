#include "block/device.h"

#include <cerrno>

namespace rnbd::block {

const char* op_name(Op op) {
  switch (op) {
    case Op::read:
      return "read";
    case Op::write:
      return "write";
    case Op::flush:
      return "flush";
    case Op::discard:
      return "discard";
    case Op::secure_erase:
      return "secure_erase";
    case Op::write_zeroes:
      return "write_zeroes";
  }
  return "unknown";
}

std::error_code check(const Request& request, const Limits& limits) {
  if (request.op == Op::flush) return {};
  if (limits.read_only && modifies(request.op)) return make_error_code(Errc::read_only);
  const std::uint64_t block_mask = limits.logical_block_size - 1;
  if (((request.offset | request.length) & block_mask) != 0) return from_errno(EINVAL);
  if (request.offset > limits.size || request.length > limits.size - request.offset)
    return from_errno(EIO);
  const auto supported = [&](std::uint64_t most) {
    if (most == 0) return from_errno(EOPNOTSUPP);
    return request.length > most ? from_errno(EINVAL) : std::error_code{};
  };
  switch (request.op) {
    case Op::discard:
      return supported(limits.max_discard);
    case Op::secure_erase:
      return supported(limits.max_secure_erase);
    case Op::write_zeroes:
      return supported(limits.max_write_zeroes);
    default:
      break;
  }
  std::uint64_t bytes = 0;
  for (const iovec& segment : request.segments) bytes += segment.iov_len;
  return bytes == request.length ? std::error_code{} : from_errno(EINVAL);
}

}  // namespace rnbd::block
