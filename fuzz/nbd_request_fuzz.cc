// Everything a client says in transmission: requests, the data of writes behind them.
// Input: transmission flags (2, little endian), then the stream.

#include <algorithm>

#include "wire/nbd.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader(std::as_bytes(std::span(data, size)));
  const auto flags = reader.take<le16>();
  if (!flags) return 0;
  const NbdExport on{.size = 1 << 20, .flags = *flags, .block_size_min = 512, .payload_max = 65536};
  while (const auto bytes = reader.take_bytes(sizeof(layout::NbdRequest))) {
    const auto request = parse_nbd_request(*bytes);
    if (!request || request->command == NbdCommand::disconnect) return 0;
    if (!check_nbd_request(*request, on) && request->command != NbdCommand::flush) {
      RNBD_ASSERT(request->offset <= on.size);
      RNBD_ASSERT(request->offset + request->length <= on.size);
      RNBD_ASSERT(request->offset % on.block_size_min == 0);
      RNBD_ASSERT(request->command != NbdCommand::write || (on.flags & kNbdReadOnly) == 0);
      RNBD_ASSERT((request->flags & kNbdCommandFua) == 0 || (on.flags & kNbdSendFua) != 0);
    }
    if (request->command == NbdCommand::write && !reader.take_bytes(request->length)) return 0;
  }
  return 0;
}
