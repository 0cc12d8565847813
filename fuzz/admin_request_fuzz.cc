// One line of the admin socket, whoever wrote it; and the other direction, a daemon's answer.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/admin/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view line(reinterpret_cast<const char*>(data), size);
  // What was understood once is understood the same again.
  if (auto request = rnbd::daemon::decode_request(line)) {
    std::string text = encode(*request);
    auto again = rnbd::daemon::decode_request(text);
    if (text.size() < rnbd::daemon::kAdminRequestMax && (!again || encode(*again) != text))
      std::abort();
  }
  if (auto response = rnbd::daemon::decode_response(line)) {
    std::string text = encode(*response);
    auto again = rnbd::daemon::decode_response(text);
    if (!again || encode(*again) != text) std::abort();
  }
  return 0;
}
