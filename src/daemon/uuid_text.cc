#include "daemon/uuid_text.h"

#include <fmt/format.h>

#include <charconv>

namespace rnbd::daemon {

std::string uuid_to_hex(const Uuid& uuid) {
  std::string text;
  for (const std::uint8_t byte : uuid) text += fmt::format("{:02x}", byte);
  return text;
}

bool parse_uuid_hex(std::string_view text, Uuid& uuid) {
  if (text.size() != 2 * uuid.size()) return false;
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    const char* first = text.data() + 2 * i;
    const auto [end, error] = std::from_chars(first, first + 2, uuid[i], 16);
    if (error != std::errc() || end != first + 2) return false;
  }
  return true;
}

}  // namespace rnbd::daemon
