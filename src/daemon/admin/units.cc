#include "daemon/admin/units.h"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <limits>

namespace rnbd::daemon {
namespace {

constexpr std::string_view kSizeLetters = "BKMGTPE";

struct TimeUnit {
  std::string_view name;
  std::int64_t nanoseconds;
};
// The largest first: formatting takes the first that divides evenly.
constexpr std::array kTimeUnits{
    TimeUnit{"h", 3'600'000'000'000}, TimeUnit{"m", 60'000'000'000}, TimeUnit{"s", 1'000'000'000},
    TimeUnit{"ms", 1'000'000},        TimeUnit{"us", 1'000},         TimeUnit{"ns", 1},
};

template <class T>
std::optional<T> parse_digits(std::string_view text, int base = 10) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  unsigned shift = 0;
  if (!text.empty()) {
    char last = text.back();
    if (last >= 'a' && last <= 'z') last = static_cast<char>(last - 'a' + 'A');
    if (std::size_t at = kSizeLetters.find(last); at != std::string_view::npos) {
      shift = static_cast<unsigned>(at) * 10;
      text.remove_suffix(1);
      while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    }
  }
  if (!text.empty() && text.front() == '-') return std::nullopt;
  auto value = parse_digits<std::uint64_t>(text);
  if (!value || *value > (std::numeric_limits<std::uint64_t>::max() >> shift)) return std::nullopt;
  return *value << shift;
}

std::string format_size(std::uint64_t bytes) {
  std::size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit + 1 < kSizeLetters.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{}", bytes) : fmt::format("{}{}", bytes, kSizeLetters[unit]);
}

std::string human_size(std::uint64_t bytes) {
  std::size_t unit = 0;
  std::uint64_t whole = bytes;
  while (whole >= 1024 && unit + 1 < kSizeLetters.size()) {
    whole /= 1024;
    ++unit;
  }
  std::uint64_t one = std::uint64_t{1} << (10 * unit);
  if (bytes % one == 0) return fmt::format("{}{}", bytes / one, kSizeLetters[unit]);
  return fmt::format("{:.3f}{}", static_cast<double>(bytes) / static_cast<double>(one),
                     kSizeLetters[unit]);
}

std::optional<Duration> parse_duration(std::string_view text) {
  std::size_t digits = 0;
  while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9') ++digits;
  auto value = parse_digits<std::int64_t>(text.substr(0, digits));
  if (!value) return std::nullopt;
  std::string_view unit = text.substr(digits);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  if (unit.empty()) unit = "s";
  for (const TimeUnit& known : kTimeUnits) {
    if (unit != known.name) continue;
    if (*value > std::numeric_limits<std::int64_t>::max() / known.nanoseconds) return std::nullopt;
    return Duration(*value * known.nanoseconds);
  }
  return std::nullopt;
}

std::string format_duration(Duration duration) {
  std::int64_t count = duration.count();
  if (count == 0) return "0s";
  for (const TimeUnit& unit : kTimeUnits)
    if (count % unit.nanoseconds == 0)
      return fmt::format("{}{}", count / unit.nanoseconds, unit.name);
  return fmt::format("{}ns", count);
}

std::optional<std::int64_t> parse_kernel_number(std::string_view text) {
  bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
  } else if (text.size() > 1 && text.starts_with('0')) {
    base = 8;
  }
  if (text.starts_with('-')) return std::nullopt;
  auto value = parse_digits<std::int64_t>(text, base);
  if (!value) return std::nullopt;
  return negative ? -*value : *value;
}

}  // namespace rnbd::daemon
