// What a client makes of an answer: its immediate and, with always_invalidate, the new key behind
// it. Input: immediate (4, little endian), then the RKEY_RSP.

#include "wire/rtrs.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader(std::as_bytes(std::span(data, size)));
  const auto immediate = reader.take<le32>();
  if (!immediate) return 0;
  const auto response = decode_response(*immediate);
  RNBD_ASSERT(response.error >= 0);
  RNBD_ASSERT(response.error <= kWireErrnoMax);
  const std::uint32_t payload = 0x0fffffff;
  RNBD_ASSERT((encode_response(response.id, response.error) & payload) == (*immediate & payload));

  const auto rkey = parse_rkey_response(reader.rest(), response.id);
  if (!rkey) return 0;
  RNBD_ASSERT(response.id <= kQueueDepthMax);
  const auto encoded = encode_rkey_response(static_cast<std::uint16_t>(response.id), *rkey);
  RNBD_ASSERT(parse_rkey_response(bytes_of(encoded), response.id) == *rkey);
  return 0;
}
