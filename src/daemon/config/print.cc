// --print-config: the schema with its values, as a file one can edit.

#include <fmt/format.h>

#include "daemon/admin/suggest.h"
#include "daemon/admin/units.h"
#include "daemon/config/schema.h"

namespace rnbd::daemon {
namespace {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out += '\\';
    if (byte < 0x20 || byte == 0x7f)
      out += fmt::format("\\u{:04x}", byte);
    else
      out += c;
  }
  return out + '"';
}

struct Printer {
  std::string operator()(const Text& s) const { return quoted(*s.value); }
  std::string operator()(const Flag& s) const { return *s.value ? "true" : "false"; }
  std::string operator()(const Choice& s) const { return quoted(*s.value); }
  std::string operator()(const Number& s) const { return fmt::format("{}", *s.value); }
  std::string operator()(const SignedNumber& s) const { return fmt::format("{}", *s.value); }
  std::string operator()(const Size& s) const {
    std::string text = format_size(*s.value);
    bool plain = text.find_first_not_of("0123456789") == std::string::npos;
    return plain ? text : quoted(text);
  }
  std::string operator()(const Time& s) const { return quoted(format_duration(*s.value)); }
  std::string operator()(const TextList& s) const {
    std::string text;
    for (const std::string& item : *s.value) text += (text.empty() ? "" : ", ") + quoted(item);
    return "[" + text + "]";
  }
  std::string operator()(const NumberList& s) const {
    std::string text;
    for (std::uint64_t item : *s.value) text += (text.empty() ? "" : ", ") + std::to_string(item);
    return "[" + text + "]";
  }
};

struct Allowed {
  std::string operator()(const Choice& s) const { return join(s.allowed); }
  std::string operator()(const Number& s) const { return fmt::format("{} to {}", s.least, s.most); }
  std::string operator()(const SignedNumber& s) const {
    return fmt::format("{} to {}", s.least, s.most);
  }
  std::string operator()(const Size& s) const {
    return fmt::format("{} to {}", format_size(s.least), format_size(s.most));
  }
  std::string operator()(const Time& s) const {
    return fmt::format("{} to {}", format_duration(s.least), format_duration(s.most));
  }
  template <class Other>
  std::string operator()(const Other&) const {
    return {};
  }
};

std::string print_section(const Section& section, const std::string& header) {
  std::string text = fmt::format("\n# {}\n{}\n", section.meaning, header);
  for (const Key& key : section.keys) {
    std::string allowed = std::visit(Allowed{}, key.setting);
    text += fmt::format("# {}{}\n", key.meaning, allowed.empty() ? "" : " (" + allowed + ")");
    text += fmt::format("{} = {}\n", key.name, std::visit(Printer{}, key.setting));
  }
  return text;
}

}  // namespace

std::vector<std::string> changed_keys(const Config& before, const Config& after,
                                      std::string_view section) {
  Config old = before, now = after;  // the tables bind to values one could change
  const std::vector<Section> olds = sections_of(old), nows = sections_of(now);
  std::vector<std::string> changed;
  for (std::size_t i = 0; i < olds.size(); ++i) {
    if (olds[i].name != section) continue;
    for (std::size_t k = 0; k < olds[i].keys.size(); ++k)
      if (std::visit(Printer{}, olds[i].keys[k].setting) !=
          std::visit(Printer{}, nows[i].keys[k].setting))
        changed.emplace_back(olds[i].keys[k].name);
  }
  return changed;
}

std::string print_config(const Config& config, std::string_view section) {
  Config copy = config;  // the tables bind to values one could change
  std::string text =
      "# Configuration of RNBD: /etc/rnbd/rnbd.toml, then /etc/rnbd/rnbd.d/*.toml in order of "
      "their names.\n";
  for (const Section& known : sections_of(copy)) {
    bool other_daemon = !section.empty() && known.name != section && known.name != "log";
    if (!other_daemon) text += print_section(known, fmt::format("[{}]", known.name));
  }
  if (section == "client") return text;
  for (ExportConfig& entry : copy.exports) text += print_section(section_of(entry), "[[export]]");
  if (copy.exports.empty()) {
    ExportConfig example{.name = "vol0", .file = "/srv/rnbd/vol0"};
    std::string lines = print_section(section_of(example), "[[export]]");
    for (std::size_t at = 1; at < lines.size();) {
      std::size_t end = lines.find('\n', at);
      std::string line = lines.substr(at, end - at);
      text += line.starts_with('#') ? "\n" + line : "\n#" + line;
      at = end + 1;
    }
    text += '\n';
  }
  return text;
}

}  // namespace rnbd::daemon
