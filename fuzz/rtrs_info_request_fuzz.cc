// What a server makes of an info request.

#include "wire/rtrs.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto name = parse_info_request(std::as_bytes(std::span(data, size)));
  if (!name) return 0;
  RNBD_ASSERT(valid_session_name(*name));
  const auto encoded = encode_info_request(*name);
  RNBD_ASSERT(parse_info_request(bytes_of(encoded)) == *name);
  return 0;
}
