#pragma once
// Bytes written as people read them in captures: "bd 1b | 00 02". Tests only.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"

namespace rnbd::wire::test {

inline int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  RNBD_ASSERT(c >= 'a' && c <= 'f');
  return c - 'a' + 10;
}

// Pairs of lower-case digits; spaces and bars between them mean nothing.
inline std::vector<std::byte> from_hex(std::string_view text) {
  std::string digits;
  for (const char c : text) {
    if (c != ' ' && c != '|') digits.push_back(c);
  }
  RNBD_ASSERT(digits.size() % 2 == 0);
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(hex_digit(digits[i]) << 4 | hex_digit(digits[i + 1])));
  }
  return bytes;
}

// The same with zeroes appended up to `size` bytes.
inline std::vector<std::byte> from_hex(std::string_view text, std::size_t size) {
  auto bytes = from_hex(text);
  RNBD_ASSERT(bytes.size() <= size);
  bytes.resize(size);
  return bytes;
}

inline std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : bytes) {
    if (!text.empty()) text.push_back(' ');
    text.push_back(kDigits[std::to_integer<std::size_t>(byte) >> 4]);
    text.push_back(kDigits[std::to_integer<std::size_t>(byte) & 15]);
  }
  return text;
}

inline std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

}  // namespace rnbd::wire::test
