#include "daemon/config/config.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"
#include "daemon/config/schema.h"

namespace rnbd::daemon {
namespace {

// Reads one file into a Config; the first thing wrong ends it.
class ConfigReader {
 public:
  ConfigReader(Config& config, const std::string& file) : config_(config), file_(file) {}

  Outcome<void> read(std::string_view text) {
    toml::table table;
    try {
      table = toml::parse(text, file_);
    } catch (const toml::parse_error& error) {
      return problem(
          {ProblemCode::config,
           fmt::format("{}:{}: {}", file_, error.source().begin.line, error.description()),
           "the file must be TOML", EINVAL});
    }
    std::vector<Section> sections = sections_of(config_);
    for (auto&& [key, node] : table)
      if (auto taken = take_top(key.str(), node, sections); !taken) return taken;
    return {};
  }

 private:
  tl::unexpected<Problem> wrong(const toml::node& node, std::string what, std::string hint) const {
    return problem({ProblemCode::config,
                    fmt::format("{}:{}: {}", file_, node.source().begin.line, what),
                    std::move(hint), EINVAL});
  }

  Outcome<void> take_top(std::string_view name, const toml::node& node,
                         std::vector<Section>& sections) {
    if (name == "export") return take_exports(node);
    std::vector<std::string_view> names{"export"};
    for (Section& section : sections) {
      names.push_back(section.name);
      if (name != section.name) continue;
      const toml::table* table = node.as_table();
      if (table == nullptr)
        return wrong(node, fmt::format("'{}' is not a section", name),
                     fmt::format("write [{}]", name));
      return take_section(*table, section, fmt::format("[{}]", name));
    }
    return wrong(node, fmt::format("unknown section or key '{}'", printable(name)),
                 suggestion(name, names));
  }

  Outcome<void> take_section(const toml::table& table, Section& section, const std::string& where) {
    for (auto&& entry : table) {
      // Not structured bindings: clang 14 cannot capture them.
      const std::string_view key = entry.first.str();
      const toml::node& node = entry.second;
      auto known = std::find_if(section.keys.begin(), section.keys.end(),
                                [&](const Key& k) { return k.name == key; });
      if (known == section.keys.end()) {
        std::vector<std::string_view> names;
        for (const Key& k : section.keys) names.push_back(k.name);
        return wrong(node, fmt::format("unknown key '{}' in {}", printable(key), where),
                     suggestion(key, names));
      }
      auto taken = std::visit([&](auto& setting) { return take(node, known->name, setting); },
                              known->setting);
      if (!taken) return taken;
    }
    return {};
  }

  Outcome<void> take_exports(const toml::node& node) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return wrong(node, "'export' is not a list", "write [[export]]");
    for (const toml::node& element : *array) {
      const toml::table* table = element.as_table();
      if (table == nullptr) return wrong(element, "an export is not a table", "write [[export]]");
      ExportConfig entry;
      Section section = section_of(entry);
      if (auto taken = take_section(*table, section, "[[export]]"); !taken) return taken;
      if (auto checked = check_export(element, entry); !checked) return checked;
      config_.exports.push_back(std::move(entry));
    }
    return {};
  }

  Outcome<void> check_export(const toml::node& node, const ExportConfig& entry) const {
    std::string who = fmt::format("the export '{}'", printable(entry.name));
    if (entry.name.empty()) return wrong(node, "an export has no name", "name = \"vol0\"");
    if (entry.name.size() > 254 || entry.name.find("..") != std::string::npos)
      return wrong(node, who + " has a name no client can ask for", "at most 254 bytes, no '..'");
    if (entry.backend == "file" && !entry.file.starts_with('/'))
      return wrong(node, who + " names no file", "file = \"/absolute/path\"");
    if (entry.backend != "file" && !entry.file.empty())
      return wrong(node, who + " has a file but another backend", "backend = \"file\"");
    if (entry.backend != "file" && entry.size == 0)
      return wrong(node, who + " has no size", "size = \"1G\"");
    if (entry.backend == "file" && entry.size != 0)
      return wrong(node, who + " has a size, but its file decides", "leave size out");
    for (const ExportConfig& other : config_.exports)
      if (other.name == entry.name) return wrong(node, who + " is there twice", "");
    return {};
  }

  tl::unexpected<Problem> mistyped(const toml::node& node, std::string_view key,
                                   std::string_view expected) const {
    return wrong(node, fmt::format("'{}' is not {}", key, expected), "");
  }

  Outcome<void> take(const toml::node& node, std::string_view key, Text& setting) {
    if (!node.is_string()) return mistyped(node, key, "a string");
    *setting.value = **node.as_string();
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, Flag& setting) {
    if (!node.is_boolean()) return mistyped(node, key, "true or false");
    *setting.value = **node.as_boolean();
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, Choice& setting) {
    std::string text = node.is_string() ? **node.as_string() : std::string();
    for (std::string_view allowed : setting.allowed) {
      if (text != allowed) continue;
      *setting.value = text;
      return {};
    }
    return wrong(node, fmt::format("'{}' cannot be '{}'", key, printable(text)),
                 "one of: " + join(setting.allowed));
  }

  Outcome<void> take(const toml::node& node, std::string_view key, Number& setting) {
    if (!node.is_integer()) return mistyped(node, key, "a whole number");
    std::int64_t number = **node.as_integer();
    if (number < 0 || static_cast<std::uint64_t>(number) < setting.least ||
        static_cast<std::uint64_t>(number) > setting.most)
      return out_of_range(node, key, number, setting.least, setting.most);
    *setting.value = static_cast<std::uint64_t>(number);
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, SignedNumber& setting) {
    if (!node.is_integer()) return mistyped(node, key, "a whole number");
    std::int64_t number = **node.as_integer();
    if (number < setting.least || number > setting.most)
      return out_of_range(node, key, number, setting.least, setting.most);
    *setting.value = number;
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, Size& setting) {
    std::optional<std::uint64_t> size;
    if (node.is_string()) size = parse_size(**node.as_string());
    if (node.is_integer() && **node.as_integer() >= 0)
      size = static_cast<std::uint64_t>(**node.as_integer());
    if (!size) return mistyped(node, key, "a size such as \"128K\" or a number of bytes");
    if (*size < setting.least || *size > setting.most)
      return out_of_range(node, key, format_size(*size), format_size(setting.least),
                          format_size(setting.most));
    if (setting.power_of_two && (*size & (*size - 1)) != 0)
      return wrong(node, fmt::format("'{}' is not a power of two", key), "");
    bool block = key == "block_size" && *size != 0 && *size < 512;
    if (block) return out_of_range(node, key, format_size(*size), "512", format_size(setting.most));
    *setting.value = *size;
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, Time& setting) {
    std::optional<Duration> time;
    if (node.is_string()) time = parse_duration(**node.as_string());
    if (node.is_integer()) time = parse_duration(std::to_string(**node.as_integer()));
    if (!time) return mistyped(node, key, "a time such as \"5s\", \"100ms\", \"50us\"");
    if (*time < setting.least || *time > setting.most)
      return out_of_range(node, key, format_duration(*time), format_duration(setting.least),
                          format_duration(setting.most));
    *setting.value = *time;
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, TextList& setting) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return mistyped(node, key, "a list of strings");
    setting.value->clear();
    for (const toml::node& element : *array) {
      if (!element.is_string()) return mistyped(node, key, "a list of strings");
      setting.value->push_back(**element.as_string());
    }
    return {};
  }

  Outcome<void> take(const toml::node& node, std::string_view key, NumberList& setting) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return mistyped(node, key, "a list of numbers");
    setting.value->clear();
    for (const toml::node& element : *array) {
      if (!element.is_integer()) return mistyped(node, key, "a list of numbers");
      std::int64_t number = **element.as_integer();
      if (number < 0 || static_cast<std::uint64_t>(number) > setting.most)
        return out_of_range(element, key, number, 0, setting.most);
      setting.value->push_back(static_cast<std::uint64_t>(number));
    }
    return {};
  }

  template <class V, class L, class M>
  tl::unexpected<Problem> out_of_range(const toml::node& node, std::string_view key, const V& value,
                                       const L& least, const M& most) const {
    return wrong(node, fmt::format("'{}' cannot be {}", key, value),
                 fmt::format("{} to {}", least, most));
  }

  Config& config_;
  const std::string& file_;
};

Outcome<void> read_file(Config& config, const std::string& file, bool must_exist) {
  std::error_code error;
  bool exists = std::filesystem::exists(file, error);
  if (!exists && !must_exist && !error) return {};
  std::ifstream stream(file);
  std::ostringstream text;
  if (stream) text << stream.rdbuf();
  if (!stream)
    return problem({ProblemCode::config,
                    fmt::format("cannot read the configuration {}: {}", file, std::strerror(errno)),
                    "", errno});
  return ConfigReader(config, file).read(text.str());
}

}  // namespace

Outcome<Config> parse_config(std::string_view text, const std::string& file_name) {
  Config config;
  if (auto read = ConfigReader(config, file_name).read(text); !read)
    return tl::unexpected(read.error());
  return config;
}

Outcome<Config> load_config(const std::string& file, bool must_exist) {
  Config config;
  if (auto read = read_file(config, file, must_exist); !read) return tl::unexpected(read.error());
  std::vector<std::string> drop_ins;
  std::error_code error;
  auto directory = std::filesystem::path(file).parent_path() / "rnbd.d";
  for (auto at = std::filesystem::directory_iterator(directory, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error))
    if (at->path().extension() == ".toml") drop_ins.push_back(at->path().string());
  std::sort(drop_ins.begin(), drop_ins.end());
  for (const std::string& drop_in : drop_ins)
    if (auto read = read_file(config, drop_in, true); !read) return tl::unexpected(read.error());
  return config;
}

}  // namespace rnbd::daemon
