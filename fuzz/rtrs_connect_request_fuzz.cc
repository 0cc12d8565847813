// What a server makes of the private data of a connect request.

#include "wire/rtrs.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto request = parse_connect_request(std::as_bytes(std::span(data, size)));
  if (!request) return 0;
  RNBD_ASSERT(request->cid < request->cid_num);
  RNBD_ASSERT(request->cid_num <= kConnectionsPerPathMax);
  const auto encoded = encode_connect_request(*request);
  const auto again = parse_connect_request(bytes_of(encoded));
  RNBD_ASSERT(again);
  RNBD_ASSERT(again->cid == request->cid);
  RNBD_ASSERT(again->recon_cnt == request->recon_cnt);
  RNBD_ASSERT(again->sess_uuid == request->sess_uuid);
  RNBD_ASSERT(again->paths_uuid == request->paths_uuid);
  RNBD_ASSERT(again->first_conn == request->first_conn);
  return 0;
}
