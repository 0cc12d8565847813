#include "app/cli/fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/cli/field_lists.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"

namespace rnbd::cli {
namespace {

using daemon::DeviceView;
using daemon::OpenView;
using daemon::Outcome;
using daemon::PathView;
using daemon::SessionView;

template <class T>
const Field<T>* find_field(std::span<const Field<T>> fields, std::string_view name) {
  for (const Field<T>& field : fields)
    if (field.name == name || field.old_name == name) return &field;
  return nullptr;
}

template <class T>
std::vector<std::string_view> names_of(std::span<const Field<T>> fields) {
  std::vector<std::string_view> names;
  for (const Field<T>& field : fields) {
    names.push_back(field.name);
    if (field.old_name != field.name) names.push_back(field.old_name);
  }
  return names;
}

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(','), text.size());
    if (end != 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// The fields the words choose: a list begins anew, + and - change what is there.
template <class T>
Outcome<std::vector<const Field<T>*>> choose(std::span<const Field<T>> fields,
                                             const FieldWords& words) {
  std::vector<const Field<T>*> chosen;
  for (const Field<T>& field : fields)
    if (field.shown) chosen.push_back(&field);
  for (const std::string& word : words) {
    const bool more = word.starts_with('+'), less = word.starts_with('-');
    if (!more && !less) chosen.clear();
    for (const std::string& name : split_commas(std::string_view(word).substr(more || less))) {
      if (name == "all" && !less) {
        chosen.clear();
        for (const Field<T>& field : fields) chosen.push_back(&field);
        continue;
      }
      const Field<T>* field = find_field(fields, name);
      if (field == nullptr)
        return daemon::usage_problem(
            fmt::format("there is no field '{}' here", printable(name)),
            fmt::format("{}; see 'rnbd help fields'", daemon::suggestion(name, names_of(fields))));
      std::erase(chosen, field);
      if (!less) chosen.push_back(field);
    }
  }
  if (chosen.empty())
    return daemon::usage_problem("no field is left to print", "see 'rnbd help fields'");
  return chosen;
}

template <class T>
Table empty_table(const char* name, const std::vector<const Field<T>*>& chosen) {
  Table table{name, {}, {}};
  for (const Field<T>* field : chosen) table.columns.push_back(*field);
  return table;
}

template <class T>
Row row_of(const std::vector<const Field<T>*>& chosen, const T& value) {
  Row row;
  for (const Field<T>* field : chosen) row.cells.push_back(field->get(value));
  return row;
}

// A path below its session: the columns both have.
Row child_of(const std::vector<const Field<SessionRow>*>& chosen, const PathRow& path) {
  Row row{{}, true, false};
  for (const Field<SessionRow>* column : chosen) {
    const Field<PathRow>* field = find_field(path_fields(), column->name);
    row.cells.push_back(field == nullptr ? Cell{{}, 0, false} : field->get(path));
  }
  return row;
}

template <class T>
std::string lines_of(const char* title, std::span<const Field<T>> fields) {
  std::string text = std::string(title) + "\n";
  for (const Field<T>& field : fields)
    text +=
        fmt::format("  {} {:<20} {}\n", field.shown ? '*' : ' ',
                    field.old_name == field.name ? std::string(field.name)
                                                 : fmt::format("{} {}", field.name, field.old_name),
                    field.meaning);
  return text;
}

}  // namespace

std::string path_letters(const SessionView& session) {
  std::string letters;
  for (const PathView& path : session.paths) letters += path.state == "connected" ? 'U' : '_';
  return letters;
}

Outcome<Table> device_table(const std::vector<DeviceView>& devices, const FieldWords& words) {
  auto chosen = choose<DeviceView>(device_fields(), words);
  if (!chosen) return tl::unexpected(chosen.error());
  Table table = empty_table("device", *chosen);
  for (const DeviceView& device : devices) table.rows.push_back(row_of(*chosen, device));
  return table;
}

Outcome<Table> session_table(const std::vector<SessionView>& sessions, bool server,
                             const FieldWords& words, bool tree) {
  auto chosen = choose<SessionRow>(session_fields(), words);
  if (!chosen) return tl::unexpected(chosen.error());
  Table table = empty_table("session", *chosen);
  for (const SessionView& session : sessions) {
    table.rows.push_back(row_of(*chosen, SessionRow{session, server}));
    for (std::size_t i = 0; tree && i < session.paths.size(); ++i) {
      table.rows.push_back(child_of(*chosen, {session, session.paths[i], server}));
      table.rows.back().last = i + 1 == session.paths.size();
    }
  }
  return table;
}

Outcome<Table> path_table(const std::vector<SessionView>& sessions, bool server,
                          const FieldWords& words) {
  auto chosen = choose<PathRow>(path_fields(), words);
  if (!chosen) return tl::unexpected(chosen.error());
  Table table = empty_table("path", *chosen);
  for (const SessionView& session : sessions)
    for (const PathView& path : session.paths)
      table.rows.push_back(row_of(*chosen, PathRow{session, path, server}));
  return table;
}

Outcome<Table> open_table(const std::vector<OpenView>& opens, const FieldWords& words) {
  auto chosen = choose<OpenView>(open_fields(), words);
  if (!chosen) return tl::unexpected(chosen.error());
  Table table = empty_table("device", *chosen);
  for (const OpenView& open : opens) table.rows.push_back(row_of(*chosen, open));
  return table;
}

bool is_field_name(std::string_view word) {
  return word == "all" || find_field(device_fields(), word) || find_field(session_fields(), word) ||
         find_field(path_fields(), word) || find_field(open_fields(), word);
}

std::vector<std::string_view> field_names(Target target, bool server) {
  if (target == Target::session) return names_of<SessionRow>(session_fields());
  if (target == Target::path) return names_of<PathRow>(path_fields());
  return server ? names_of<OpenView>(open_fields()) : names_of<DeviceView>(device_fields());
}

bool has_field(Target target, bool server, std::string_view name) {
  if (target == Target::session) return find_field(session_fields(), name) != nullptr;
  if (target == Target::path) return find_field(path_fields(), name) != nullptr;
  return server ? find_field(open_fields(), name) != nullptr
                : find_field(device_fields(), name) != nullptr;
}

std::string fields_text() {
  return "Fields of 'list' and 'show': NAME,NAME...   +NAME   -NAME   all. A second name is the "
         "one "
         "of the old tool; * is\nshown when nothing is said.\n\n" +
         lines_of<DeviceView>("devices", device_fields()) + "\n" +
         lines_of<OpenView>("devices of a server", open_fields()) + "\n" +
         lines_of<SessionRow>("sessions", session_fields()) + "\n" +
         lines_of<PathRow>("paths", path_fields());
}

}  // namespace rnbd::cli
