// Everything a client says in the handshake: its flags, then options until the bytes or the
// protocol end.

#include "wire/nbd.h"

using namespace rnbd;
using namespace rnbd::wire;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Reader reader(std::as_bytes(std::span(data, size)));
  const auto flags = reader.take_bytes(sizeof(be32));
  if (!flags || !parse_nbd_client_flags(*flags)) return 0;
  while (const auto bytes = reader.take_bytes(sizeof(layout::NbdOptionHeader))) {
    const auto header = parse_nbd_option_header(*bytes);
    if (!header || header->length > kNbdOptionLengthMax) return 0;
    const auto option_data = reader.take_bytes(header->length);
    if (!option_data) return 0;
    // Any option may carry any data: both parsers see all of it.
    if (const auto name = parse_nbd_export_name(*option_data)) {
      RNBD_ASSERT(name->size() == header->length);
    }
    const auto request = parse_nbd_info_request(*option_data);
    if (!request) continue;
    RNBD_ASSERT(request->name.size() <= kNbdNameMax);
    RNBD_ASSERT(request->name.find('\0') == std::string_view::npos);
    RNBD_ASSERT(6 + request->name.size() + 2 * request->wanted.size() == header->length);
  }
  return 0;
}
