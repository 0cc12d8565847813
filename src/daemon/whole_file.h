#pragma once
// Small files that are replaced as a whole. Blocks.

#include <cstddef>
#include <string>
#include <string_view>

#include "base/error.h"

namespace rnbd::daemon {

// EFBIG beyond `bytes_max`.
Result<std::string> read_file(const std::string& path, std::size_t bytes_max);
// Whole or not at all, and on disk when it returns. Through <path>.new, readable by us alone.
std::error_code replace_file(const std::string& path, std::string_view text);

}  // namespace rnbd::daemon
