// What a client makes of an info response, for limits it would have accepted.
// Input: queue depth (2), max_io_size (4), max_hdr_size (4), little endian, then the response.

#include <limits>

#include "wire/rtrs.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader(std::as_bytes(std::span(data, size)));
  const auto depth = reader.take<le16>();
  const auto io = reader.take<le32>();
  const auto header = reader.take<le32>();
  if (!depth || !io || !header) return 0;
  const auto accepted = encode_connect_accept({*depth, *io, *header, false});
  const auto limits = parse_connect_accept(bytes_of(accepted), true);
  if (!limits) return 0;

  const auto chunks = parse_info_response(reader.rest(), *limits);
  if (!chunks) return 0;
  RNBD_ASSERT(chunks->size() == limits->queue_depth);
  for (const auto& chunk : *chunks) {
    RNBD_ASSERT(chunk.address <= std::numeric_limits<std::uint64_t>::max() - limits->chunk_size());
  }
  return 0;
}
