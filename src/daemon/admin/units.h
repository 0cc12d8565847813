#pragma once
// Numbers as people write them: sizes "128K", "16G"; times "5s", "100ms", "50us". Binary units.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/loop.h"

namespace rnbd::daemon {

std::optional<std::uint64_t> parse_size(std::string_view text);
// Exact and as short as possible: 131072 is "128K", 1000 is "1000".
std::string format_size(std::uint64_t bytes);
// For tables: "8.002M", three decimals where they say something.
std::string human_size(std::uint64_t bytes);

// A number with ns, us, ms, s, m or h; a bare number is seconds.
std::optional<Duration> parse_duration(std::string_view text);
std::string format_duration(Duration duration);

// As the kernel's kstrtol with base 0: decimal, 0x hexadecimal, 0 octal, one sign.
std::optional<std::int64_t> parse_kernel_number(std::string_view text);

}  // namespace rnbd::daemon
