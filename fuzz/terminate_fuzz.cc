// Describing whatever a peer put into a Terminate.

#include "base/assert.h"
#include "wire/rdmap.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto reading = rnbd::wire::describe_terminate(std::as_bytes(std::span(data, size)));
  RNBD_ASSERT(!reading.text.empty());
  return 0;
}
