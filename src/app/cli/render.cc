#include "app/cli/render.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

std::string cell_text(const Cell& cell, Kind kind, const Style& style) {
  if (!cell.known) return "";
  switch (kind) {
    case Kind::text:
      return cell.text.empty() ? "-" : cell.text;
    case Kind::count:
      return std::to_string(cell.number);
    case Kind::bytes:
      return size_text(cell.number, style.unit);
    case Kind::time:
      return time_text(cell.number);
  }
  return "";
}

// As programs read it.
std::string exact_text(const Cell& cell, Kind kind) {
  if (!cell.known) return "";
  return kind == Kind::text ? cell.text : std::to_string(cell.number);
}

using Line = std::vector<std::string>;

// The sums; empty when nothing can be summed or one row says it all.
Line totals_of(const Table& table, const Style& style) {
  const auto whole =
      std::count_if(table.rows.begin(), table.rows.end(), [](const Row& r) { return !r.child; });
  const bool any = std::any_of(table.columns.begin(), table.columns.end(),
                               [](const FieldInfo& f) { return f.totalled; });
  if (whole < 2 || !any) return {};
  Line line;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    if (!table.columns[c].totalled) {
      line.emplace_back();
      continue;
    }
    Cell sum;
    for (const Row& row : table.rows)
      if (!row.child && row.cells[c].known) sum.number += row.cells[c].number;
    line.push_back(cell_text(sum, table.columns[c].kind, style));
  }
  return line;
}

std::string branch(const Row& row, bool unicode) {
  if (!row.child) return "";
  if (unicode) return row.last ? "└─ " : "├─ ";
  return row.last ? "`- " : "|- ";
}

std::string render_plain(const Table& table, const Style& style) {
  std::vector<Line> lines;
  Line titles;
  for (const FieldInfo& column : table.columns) titles.emplace_back(column.title);
  if (style.headers) lines.push_back(titles);
  for (const Row& row : table.rows) {
    Line line;
    for (std::size_t c = 0; c < row.cells.size(); ++c)
      line.push_back((c == 0 ? branch(row, style.unicode) : "") +
                     cell_text(row.cells[c], table.columns[c].kind, style));
    lines.push_back(std::move(line));
  }
  const Line totals = style.headers && style.totals ? totals_of(table, style) : Line{};
  if (!totals.empty()) lines.push_back(totals);

  std::vector<std::size_t> widths(table.columns.size());
  for (const Line& line : lines)
    for (std::size_t c = 0; c < line.size(); ++c)
      widths[c] = std::max(widths[c], width_of(line[c]));
  std::string text;
  for (std::size_t l = 0; l < lines.size(); ++l) {
    std::string out;
    for (std::size_t c = 0; c < lines[l].size(); ++c) {
      const std::string& value = lines[l][c];
      const std::string pad(widths[c] - width_of(value), ' ');
      out +=
          (c == 0 ? "" : "  ") + (table.columns[c].kind == Kind::text ? value + pad : pad + value);
    }
    if (!totals.empty() && l + 1 == lines.size()) {
      std::size_t rule = 2 * (widths.size() - 1);
      for (std::size_t width : widths) rule += width;
      for (std::size_t i = 0; i < rule; ++i) text += style.unicode ? "─" : "-";
      text += "\n";
    }
    text += out.substr(0, out.find_last_not_of(' ') + 1) + "\n";
  }
  return text;
}

std::string quoted_csv(std::string_view value) {
  std::string out = "\"";
  for (char c : value) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_of(const Table& table, bool headers, std::string_view FieldInfo::*name) {
  std::string text;
  for (std::size_t c = 0; headers && c < table.columns.size(); ++c)
    text += (c == 0 ? "" : ",") + quoted_csv(table.columns[c].*name);
  if (headers) text += "\n";
  for (const Row& row : table.rows) {
    for (std::size_t c = 0; c < row.cells.size(); ++c) {
      const Kind kind = table.columns[c].kind;
      const std::string value = exact_text(row.cells[c], kind);
      text += (c == 0 ? "" : ",") + (kind == Kind::text ? quoted_csv(value) : value);
    }
    text += "\n";
  }
  return text;
}

std::string xml_text(std::string_view value) {
  std::string out;
  for (char c : value) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else
      out += c;
  }
  return out;
}

// Text here is printable ASCII or UTF-8: only these two need an escape.
std::string quoted_json(std::string_view value) {
  std::string out = "\"";
  for (char c : value) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

std::string_view old_group(const OldTable& t) {
  if (t.table.name == "device") return t.server ? "exports" : "imports";
  return t.server ? "incoming" : "outgoing";
}

}  // namespace

std::size_t width_of(std::string_view text) {
  // Code points, which is near enough to columns for names.
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  }));
}

std::string size_text(std::uint64_t bytes, char unit) {
  const std::size_t power = unit == 0 ? std::string_view::npos : kUnits.find(unit);
  if (power == std::string_view::npos) return daemon::human_size(bytes);
  const std::uint64_t one = std::uint64_t{1} << (10 * power);
  if (bytes % one == 0) return fmt::format("{}{}", bytes / one, unit);
  return fmt::format("{:.3f}{}", static_cast<double>(bytes) / static_cast<double>(one), unit);
}

std::string time_text(std::uint64_t us) {
  return daemon::format_duration(std::chrono::microseconds(us));
}

std::string render_tables(const std::vector<Table>& tables, const Style& style) {
  std::string text;
  for (const Table& table : tables) text += (text.empty() ? "" : "\n") + render_plain(table, style);
  return text;
}

std::string render_csv(const std::vector<Table>& tables, bool headers) {
  std::string text;
  for (const Table& table : tables) text += csv_of(table, headers, &FieldInfo::name);
  return text;
}

std::string render_xml(const std::vector<Table>& tables) {
  std::string text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rnbd version=\"1\">\n";
  for (const Table& table : tables) {
    text += fmt::format("  <{}s>\n", table.name);
    for (const Row& row : table.rows) {
      text += fmt::format("    <{}>", table.name);
      for (std::size_t c = 0; c < row.cells.size(); ++c)
        text += fmt::format("<{0}>{1}</{0}>", table.columns[c].name,
                            xml_text(exact_text(row.cells[c], table.columns[c].kind)));
      text += fmt::format("</{}>\n", table.name);
    }
    text += fmt::format("  </{}s>\n", table.name);
  }
  return text + "</rnbd>\n";
}

std::string render_old_json(const std::vector<OldTable>& tables) {
  std::string text = "{";
  for (std::size_t t = 0; t < tables.size(); ++t) {
    const Table& table = tables[t].table;
    text += fmt::format("{}\n\t\"{}\": ", t == 0 ? "" : ",", old_group(tables[t]));
    if (table.rows.empty()) {
      text += "null";
      continue;
    }
    text += "[";
    for (std::size_t r = 0; r < table.rows.size(); ++r) {
      text += r == 0 ? "\n\t\t{" : ",\n\t\t{";
      for (std::size_t c = 0; c < table.columns.size(); ++c) {
        const Cell& cell = table.rows[r].cells[c];
        const Kind kind = table.columns[c].kind;
        text += fmt::format("{}\n\t\t\t\"{}\": {}", c == 0 ? "" : ",", table.columns[c].old_name,
                            !cell.known          ? "null"
                            : kind == Kind::text ? quoted_json(cell.text)
                                                 : std::to_string(cell.number));
      }
      text += "\n\t\t}";
    }
    text += "\n\t]";
  }
  return text + "\n}\n";
}

std::string render_old_xml(const std::vector<OldTable>& tables) {
  std::string text;
  for (const OldTable& t : tables) {
    text += fmt::format("<{}>\n", old_group(t));
    for (const Row& row : t.table.rows) {
      text += fmt::format("\t<{}>\n", t.table.name);
      for (std::size_t c = 0; c < row.cells.size(); ++c) {
        const Kind kind = t.table.columns[c].kind;
        const std::string value = xml_text(exact_text(row.cells[c], kind));
        text += fmt::format("\t\t<{0}>{1}</{0}>\n", t.table.columns[c].old_name,
                            kind == Kind::text ? "\"" + value + "\"" : value);
      }
      text += fmt::format("\t</{}>\n", t.table.name);
    }
    text += fmt::format("</{}>\n", old_group(t));
  }
  return text;
}

std::string render_old_csv(const std::vector<OldTable>& tables, bool headers) {
  std::string text;
  for (const OldTable& t : tables)
    if (!t.table.rows.empty()) text += csv_of(t.table, headers, &FieldInfo::old_name);
  return text;
}

}  // namespace rnbd::cli
