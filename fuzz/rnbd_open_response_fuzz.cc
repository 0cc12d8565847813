// What a client makes of the answer to an OPEN, and to a SESS_INFO.

#include <bit>

#include "wire/rnbd.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto version = parse_session_info_response(bytes)) {
    RNBD_ASSERT(*version >= 1);
    RNBD_ASSERT(*version <= kRnbdVersion);
  }
  const auto response = parse_open_response(bytes);
  if (!response) return 0;
  const std::uint64_t size_bytes = response->nsectors * kSectorSize;
  RNBD_ASSERT(size_bytes / kSectorSize == response->nsectors);
  RNBD_ASSERT(size_bytes <= std::uint64_t{1} << 63);
  RNBD_ASSERT(response->logical_block_size >= kSectorSize);
  RNBD_ASSERT(std::has_single_bit(response->logical_block_size));
  RNBD_ASSERT(size_bytes % response->logical_block_size == 0);
  RNBD_ASSERT(response->physical_block_size % response->logical_block_size == 0);
  const auto encoded = encode(*response);
  RNBD_ASSERT(parse_open_response(bytes_of(encoded)));
  return 0;
}
