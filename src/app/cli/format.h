#pragma once
// What was learned, as text: tables for people, CSV and XML of the same columns, and the whole as
// JSON. What came from a peer is made printable. Pure.

#include <string>
#include <vector>

#include "app/cli/command.h"
#include "daemon/admin/protocol.h"

namespace rnbd::cli {

struct Column {
  std::string title;
  bool number = false;  // right-aligned, and not quoted
};
struct Table {
  std::string name;  // of one row: "device"
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;
};

Table device_table(const std::vector<daemon::DeviceView>& devices, bool exact_numbers);
Table session_table(const std::vector<daemon::SessionView>& sessions, bool exact_numbers);
Table path_table(const std::vector<daemon::SessionView>& sessions, bool exact_numbers);
Table open_table(const std::vector<daemon::OpenView>& opens, bool exact_numbers);

std::string render(const std::vector<Table>& tables, Output output, bool headers);

// "name: value" lines of everything known about one thing.
std::string describe(const daemon::DeviceView& device);
std::string describe(const daemon::SessionView& session);
std::string describe(const daemon::DaemonView& daemon);
// What everybody should know of these sessions; empty when there is nothing.
std::string warnings(const std::vector<daemon::SessionView>& sessions);
// How a mapped volume can be used, after map.
std::string describe_use(const daemon::DeviceView& device, bool already);

}  // namespace rnbd::cli
