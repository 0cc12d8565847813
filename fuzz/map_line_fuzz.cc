// The line of map_device.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/admin/map_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto request = rnbd::daemon::parse_map_line({reinterpret_cast<const char*>(data), size}, 8);
  if (!request) return 0;
  if (request->session.size() > rnbd::daemon::kNameBytesMax ||
      request->device_path.size() > rnbd::daemon::kNameBytesMax)
    std::abort();
  if (request->session.empty() || request->device_path.empty() ||
      request->paths.size() > rnbd::daemon::kPathsMax)
    std::abort();
  auto again = rnbd::daemon::parse_map_line(to_line(*request), 8);
  if (!again || *again != *request) std::abort();
  return 0;
}
