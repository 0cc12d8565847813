#pragma once
// Tables as text: for people, and as CSV and XML. Pure.

#include <cstdint>
#include <string>
#include <vector>

#include "app/cli/fields.h"

namespace rnbd::cli {

struct Style {
  bool headers = true;   // titles, totals and tree lines
  bool totals = true;    // a line of sums below more than one row
  bool unicode = false;  // lines may be drawn
  char unit = 0;         // of sizes: B K M G T P E; 0: the one that fits
};

// One below the other, with an empty line between.
std::string render_tables(const std::vector<Table>& tables, const Style& style);
// Plain numbers; strings are quoted, a quote in them is doubled.
std::string render_csv(const std::vector<Table>& tables, bool headers);
std::string render_xml(const std::vector<Table>& tables);

// The shapes of the old tool: its field names, tab-indented, null for none; in XML strings keep
// their quotes. `server` of a table says whether it is what others have of us.
struct OldTable {
  Table table;
  bool server = false;
};
std::string render_old_json(const std::vector<OldTable>& tables);
std::string render_old_xml(const std::vector<OldTable>& tables);
std::string render_old_csv(const std::vector<OldTable>& tables, bool headers);

// "8.002M"; in the unit asked for.
std::string size_text(std::uint64_t bytes, char unit = 0);
std::string time_text(std::uint64_t microseconds);
// How many columns a terminal takes for it.
std::size_t width_of(std::string_view text);

}  // namespace rnbd::cli
