// The whole server's side of NBD negotiation: everything a client says, in whatever pieces it
// arrives.

#include <algorithm>

#include "frontend/nbd/handshake.h"

using namespace rnbd;
using namespace rnbd::nbd;

namespace {

class TwoExports final : public ExportDirectory {
 public:
  std::vector<std::string> names() const override { return {"a", "volume"}; }
  bool find(std::string_view name, bool structured, ExportInfo& info) const override {
    if (name != "a" && name != "volume" && !name.empty()) return false;
    info = describe(std::string(name), "words", {.size = 1 << 20, .max_discard = 4096},
                    {.structured = structured});
    return true;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const TwoExports exports;
  Handshake handshake(exports);
  const wire::ByteView all = std::as_bytes(std::span(data, size));
  std::size_t at = 0;
  std::size_t visible = 0;
  while (visible < size) {
    visible = std::min(size, visible + 1 + (visible * 7) % 61);
    for (;;) {
      const std::size_t used = handshake.feed(all.subspan(at, visible - at));
      RNBD_ASSERT(used <= visible - at);
      at += used;
      if (used == 0) break;
    }
    // What it waits for must fit the buffer its user keeps.
    if (handshake.state() == Handshake::State::negotiating)
      RNBD_ASSERT(visible - at < Handshake::kMessageMax);
    if (handshake.state() == Handshake::State::transmission)
      RNBD_ASSERT(handshake.chosen().geometry.size == 1 << 20);
    handshake.output().clear();
  }
  return 0;
}
