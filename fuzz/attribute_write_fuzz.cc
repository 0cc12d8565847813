// What is written to an attribute: the first byte says to which.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/tree/store.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace rnbd::daemon;
  if (size == 0) return 0;
  Node node{.path = "devices/virtual/a/b", .kind = NodeKind::attribute, .mode = 0644};
  node.action = static_cast<Action>(data[0] % (static_cast<int>(Action::recover_volume) + 1));
  node.device = "rnbd0";
  node.session = "s";
  node.path_word = "1";
  node.volume = "v";
  node.counters = "all";
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  const auto request = request_of(node, text, 8);
  if (!request) {
    // A write() fails with an errno, and the reason is told.
    if (request.error().error <= 0 || request.error().what.empty()) std::abort();
    return 0;
  }
  if (text.size() > kWriteMax || node.action == Action::none) std::abort();
  if (!*request) return 0;
  const std::string line = encode(**request);
  if (line.size() >= kAdminRequestMax) std::abort();
  const auto again = decode_request(line);
  if (!again || again->command != (*request)->command || again->target != (*request)->target ||
      again->size != (*request)->size || again->force != (*request)->force)
    std::abort();
  return 0;
}
