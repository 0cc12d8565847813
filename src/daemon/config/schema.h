#pragma once
// The keys of the configuration: one table names each with its type, range, meaning and place. The
// parser, the checks and --print-config all follow it, so that they cannot disagree.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "daemon/config/config.h"

namespace rnbd::daemon {

struct Text {
  std::string* value;
};
struct Flag {
  bool* value;
};
struct Choice {
  std::string* value;
  std::vector<std::string_view> allowed;
};
struct Number {
  std::uint64_t* value;
  std::uint64_t least, most;
};
struct SignedNumber {
  std::int64_t* value;
  std::int64_t least, most;
};
struct Size {  // "128K" or a number of bytes
  std::uint64_t* value;
  std::uint64_t least, most;
  bool power_of_two;
};
struct Time {  // "5s", "50us", or a number of seconds
  Duration* value;
  Duration least, most;
};
struct TextList {
  std::vector<std::string>* value;
};
struct NumberList {
  std::vector<std::uint64_t>* value;
  std::uint64_t most;
};
using Setting =
    std::variant<Text, Flag, Choice, Number, SignedNumber, Size, Time, TextList, NumberList>;

struct Key {
  std::string_view name;
  std::string_view meaning;
  Setting setting;
};
struct Section {
  std::string_view name;
  std::string_view meaning;
  std::vector<Key> keys;
};

// Bound to the values of `config`, which must outlive the tables.
std::vector<Section> sections_of(Config& config);
Section section_of(ExportConfig& entry);

}  // namespace rnbd::daemon
