#pragma once
// UUIDs as the daemons' files hold them: 32 hexadecimal digits.

#include <string>
#include <string_view>

#include "base/random.h"

namespace rnbd::daemon {

std::string uuid_to_hex(const Uuid& uuid);
bool parse_uuid_hex(std::string_view text, Uuid& uuid);

}  // namespace rnbd::daemon
