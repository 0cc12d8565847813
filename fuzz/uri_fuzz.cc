// rnbd:// URIs.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/admin/map_request.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto request = rnbd::daemon::parse_uri({reinterpret_cast<const char*>(data), size});
  if (!request) return 0;
  if (request->device_path.empty() || request->device_path.size() > rnbd::daemon::kNameBytesMax)
    std::abort();
  if (request->paths.empty() || request->paths.size() > rnbd::daemon::kPathsMax) std::abort();
  std::string session = rnbd::daemon::default_session_name("host.example", request->paths[0]);
  if (session.empty() || session.find_first_of("/.") != std::string::npos) std::abort();
  return 0;
}
