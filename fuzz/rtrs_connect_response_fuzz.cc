// What a client makes of the private data of an accept or a reject.

#include "wire/rtrs.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  RNBD_ASSERT(parse_connect_reject(bytes));  // never success
  const auto extension = parse_extension(bytes);
  RNBD_ASSERT(!extension || size >= 104);
  const auto io = parse_connect_accept(bytes, false);
  const auto service = parse_connect_accept(bytes, true);
  if (!service) return 0;
  RNBD_ASSERT(io);  // the service connection is the stricter one
  RNBD_ASSERT(service->chunk_size() > service->max_io_size);
  RNBD_ASSERT(service->chunk_size() > service->max_hdr_size);
  RNBD_ASSERT(geometry_fits(service->queue_depth, service->chunk_size()));
  const RequestImmediate immediate(service->queue_depth);
  const auto last =
      immediate.decode(immediate.encode(service->queue_depth - 1U, service->chunk_size() - 1));
  RNBD_ASSERT(last.chunk == service->queue_depth - 1U);
  RNBD_ASSERT(last.offset == service->chunk_size() - 1);
  return 0;
}
