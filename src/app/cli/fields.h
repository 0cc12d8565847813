#pragma once
// What can be said of a device, a session, a path and an open volume: the columns of tables, CSV
// and XML. Each has its name (that of the JSON member where there is one), the name the old tool
// has for it, and a title. Pure.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "app/cli/grammar.h"
#include "daemon/admin/problem.h"
#include "daemon/admin/views.h"

namespace rnbd::cli {

enum class Kind { text, count, bytes, time };  // time: microseconds

struct FieldInfo {
  std::string_view name;
  std::string_view old_name;
  std::string_view title;
  Kind kind = Kind::text;
  bool shown = false;     // when nobody says which
  bool totalled = false;  // its sum means something
  std::string_view meaning{};
};

struct Cell {
  std::string text{};        // of Kind::text
  std::uint64_t number = 0;  // of the others
  bool known = true;         // false: this row has no such thing
};
struct Row {
  std::vector<Cell> cells;
  bool child = false;  // belongs to the row above it that is none
  bool last = false;   // of these
};
struct Table {
  std::string name;  // of one row: "device"
  std::vector<FieldInfo> columns;
  std::vector<Row> rows;
};

// `words` name the columns: "name,size", "+error", "-users", "all"; empty: those usually shown.
using FieldWords = std::vector<std::string>;
daemon::Outcome<Table> device_table(const std::vector<daemon::DeviceView>& devices,
                                    const FieldWords& words = {});
// With `tree` a session's paths follow it as children. What a server says of itself differs.
daemon::Outcome<Table> session_table(const std::vector<daemon::SessionView>& sessions, bool server,
                                     const FieldWords& words = {}, bool tree = false);
daemon::Outcome<Table> path_table(const std::vector<daemon::SessionView>& sessions, bool server,
                                  const FieldWords& words = {});
daemon::Outcome<Table> open_table(const std::vector<daemon::OpenView>& opens,
                                  const FieldWords& words = {});

// Whether the word names a field of anything, by either name.
bool is_field_name(std::string_view word);
std::vector<std::string_view> field_names(Target target, bool server);
// Whether such a table has the field.
bool has_field(Target target, bool server, std::string_view name);
// For help fields.
std::string fields_text();

// "U_": one letter per path, U for a connected one.
std::string path_letters(const daemon::SessionView& session);

}  // namespace rnbd::cli
