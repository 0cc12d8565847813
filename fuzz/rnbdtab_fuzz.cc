// The table of volumes, rnbdtab.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "daemon/config/rnbdtab.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace rnbd::daemon;
  const auto table = parse_rnbdtab({reinterpret_cast<const char*>(data), size}, "rnbdtab", 8);
  if (!table) {
    if (!table.error().what.starts_with("rnbdtab:")) std::abort();
    return 0;
  }
  if (table->entries.size() > kRnbdtabEntriesMax) std::abort();
  for (const RnbdtabEntry& entry : table->entries) {
    if (entry.name.empty() || entry.name.find('/') != std::string::npos) std::abort();
    if (entry.map.device_path.empty() || entry.map.paths.size() > kPathsMax) std::abort();
    if (entry.map.session.empty() && entry.map.paths.empty()) std::abort();
    if (table->find(entry.name) != &entry) std::abort();
  }
  return 0;
}
