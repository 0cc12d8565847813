#include "app/cli/format.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::human_size;

std::string size_text(std::uint64_t bytes, bool exact) {
  return exact ? std::to_string(bytes) : human_size(bytes);
}
std::string or_dash(const std::string& text) { return text.empty() ? "-" : printable(text); }

std::size_t width_of(std::string_view text) {
  // Code points, which is near enough to columns for names.
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U;
  }));
}

std::string render_plain(const Table& table, bool headers) {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    std::size_t width = headers ? width_of(table.columns[c].title) : 0;
    for (const auto& row : table.rows) width = std::max(width, width_of(row[c]));
    widths.push_back(width);
  }
  auto line = [&](auto&& cell) {
    std::string text;
    for (std::size_t c = 0; c < table.columns.size(); ++c) {
      const std::string& value = cell(c);
      std::string pad(widths[c] - std::min(widths[c], width_of(value)), ' ');
      text += (c == 0 ? "" : "  ") + (table.columns[c].number ? pad + value : value + pad);
    }
    return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
  };
  std::string text;
  if (headers)
    text += line([&](std::size_t c) -> const std::string& { return table.columns[c].title; });
  for (const auto& row : table.rows)
    text += line([&](std::size_t c) -> const std::string& { return row[c]; });
  return text;
}

std::string csv_cell(const std::string& value, bool number) {
  if (number) return value;
  std::string out = "\"";
  for (char c : value) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string lower(std::string text) {
  for (char& c : text)
    c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c == ' ' ? '_' : c);
  return text;
}

std::string render_csv(const Table& table, bool headers) {
  std::string text;
  for (std::size_t c = 0; headers && c < table.columns.size(); ++c)
    text += (c == 0 ? "" : ",") + csv_cell(lower(table.columns[c].title), false);
  if (headers) text += "\n";
  for (const auto& row : table.rows) {
    for (std::size_t c = 0; c < row.size(); ++c)
      text += (c == 0 ? "" : ",") + csv_cell(row[c], table.columns[c].number);
    text += "\n";
  }
  return text;
}

std::string xml_text(const std::string& value) {
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

std::string render_xml(const Table& table) {
  std::string text = fmt::format("  <{}s>\n", table.name);
  for (const auto& row : table.rows) {
    text += fmt::format("    <{}>", table.name);
    for (std::size_t c = 0; c < row.size(); ++c) {
      std::string tag = lower(table.columns[c].title);
      text += fmt::format("<{0}>{1}</{0}>", tag, xml_text(row[c]));
    }
    text += fmt::format("</{}>\n", table.name);
  }
  return text + fmt::format("  </{}s>\n", table.name);
}

void line(std::string& text, std::string_view name, const std::string& value) {
  if (!value.empty())
    text += fmt::format("{:<20} {}\n", fmt::format("{}:", name), printable(value));
}

std::string time_text(std::uint64_t us) {
  return daemon::format_duration(std::chrono::microseconds(us));
}

std::uint64_t whole_ms(std::uint64_t us) { return us / 1000 * 1000; }

std::string state_text(const daemon::PathView& path) {
  return path.slow ? path.state + ", slow" : path.state;
}

std::string failover_text(const daemon::SessionView& session, bool exact) {
  if (session.failover == "immediate" && !exact) return "immediate, UNSAFE";
  return or_dash(session.failover);
}

}  // namespace

std::string warnings(const std::vector<daemon::SessionView>& sessions) {
  std::string text;
  for (const auto& s : sessions)
    if (s.failover == "immediate")
      text += fmt::format(
          "WARNING: session {} has failover=immediate: when a path is lost, a delayed copy of a "
          "write may undo a newer one, silently\n",
          printable(s.name));
  return text;
}

Table device_table(const std::vector<daemon::DeviceView>& devices, bool exact) {
  Table table{"device",
              {{"NAME"},
               {"SIZE", true},
               {"VOLUME"},
               {"SESSION"},
               {"MODE"},
               {"STATE"},
               {"USERS", true},
               {"WHERE"}},
              {}};
  for (const auto& d : devices) {
    std::string where = !d.node.empty() ? d.node : !d.file.empty() ? d.file : d.nbd;
    table.rows.push_back({d.name, size_text(d.size, exact), printable(d.volume),
                          printable(d.session), d.access_mode, d.state, std::to_string(d.users),
                          or_dash(where)});
  }
  return table;
}

Table session_table(const std::vector<daemon::SessionView>& sessions, bool exact) {
  Table table{"session",
              {{"SESSION"},
               {"STATE"},
               {"PATHS", true},
               {"DEPTH", true},
               {"MAX IO", true},
               {"READ", true},
               {"WRITTEN", true},
               {"INFLIGHT", true},
               {"POLICY"},
               {"FAILOVER"}},
              {}};
  for (const auto& s : sessions) {
    std::uint64_t read = 0, written = 0, inflight = 0;
    for (const auto& p : s.paths) {
      read += p.read_bytes;
      written += p.write_bytes;
      inflight += p.inflight;
    }
    table.rows.push_back({printable(s.name), s.state, std::to_string(s.paths.size()),
                          std::to_string(s.queue_depth), size_text(s.max_io_size, exact),
                          size_text(read, exact), size_text(written, exact),
                          std::to_string(inflight), or_dash(s.policy), failover_text(s, exact)});
  }
  return table;
}

Table path_table(const std::vector<daemon::SessionView>& sessions, bool exact) {
  Table table{"path",
              {{"SESSION"},
               {"NO", true},
               {"PATH"},
               {"STATE"},
               {"FENCED"},
               {"FABRIC"},
               {"LATENCY", true},
               {"READ", true},
               {"WRITTEN", true},
               {"INFLIGHT", true},
               {"RECONNECTS", true},
               {"ERROR"}},
              {}};
  for (const auto& s : sessions)
    for (const auto& p : s.paths)
      table.rows.push_back(
          {printable(s.name), std::to_string(p.number), or_dash(p.name), state_text(p),
           p.fenced ? "yes" : "waiting", p.device.empty() ? or_dash(p.fabric) : p.device,
           exact ? std::to_string(p.latency_us) : time_text(p.latency_us),
           size_text(p.read_bytes, exact), size_text(p.write_bytes, exact),
           std::to_string(p.inflight), std::to_string(p.reconnects), or_dash(p.error)});
  return table;
}

Table open_table(const std::vector<daemon::OpenView>& opens, bool exact) {
  Table table{"device",
              {{"VOLUME"},
               {"SIZE", true},
               {"SESSION"},
               {"ID", true},
               {"MODE"},
               {"READ", true},
               {"WRITTEN", true},
               {"ERRORS", true}},
              {}};
  for (const auto& o : opens)
    table.rows.push_back({printable(o.volume), size_text(o.size, exact), printable(o.session),
                          std::to_string(o.device_id), o.access_mode,
                          size_text(o.read_bytes, exact), size_text(o.write_bytes, exact),
                          std::to_string(o.errors)});
  return table;
}

std::string render(const std::vector<Table>& tables, Output output, bool headers) {
  std::string text;
  if (output == Output::xml)
    text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<rnbd version=\"1\">\n";
  for (const Table& table : tables) {
    if (output == Output::xml) text += render_xml(table);
    if (output == Output::csv) text += render_csv(table, headers);
    if (output == Output::table) text += (text.empty() ? "" : "\n") + render_plain(table, headers);
  }
  if (output == Output::xml) text += "</rnbd>\n";
  return text;
}

std::string describe(const daemon::DeviceView& d) {
  std::string text;
  line(text, "name", d.name);
  line(text, "volume", d.volume);
  line(text, "session", d.session);
  line(text, "access_mode", d.access_mode);
  line(text, "state", d.state);
  line(text, "error", d.error);
  line(text, "size", fmt::format("{} ({})", d.size, human_size(d.size)));
  line(text, "logical_block_size", std::to_string(d.logical_block_size));
  line(text, "block device", d.node);
  line(text, "frontend", d.frontend);
  line(text, "ublk device", d.ublk == d.node ? "" : d.ublk);
  line(text, "loop device", d.loop == d.node ? "" : d.loop);
  line(text, "file", d.file);
  line(text, "nbd", d.nbd);
  line(text, "users", std::to_string(d.users));
  line(text, "reads", fmt::format("{} ({})", d.reads, human_size(d.read_bytes)));
  line(text, "writes", fmt::format("{} ({})", d.writes, human_size(d.write_bytes)));
  line(text, "other requests", std::to_string(d.others));
  line(text, "errors", std::to_string(d.errors));
  line(text, "in flight", std::to_string(d.inflight));
  line(text, "held", std::to_string(d.held));
  line(text, "hold", d.hold_us == 0 ? "forever" : time_text(d.hold_us));
  if (d.waiting_us != 0)
    line(text, "waiting",
         fmt::format("for its server since {}", time_text(whole_ms(d.waiting_us))));
  return text;
}

std::string describe(const daemon::SessionView& s) {
  std::string text;
  line(text, "session", s.name);
  line(text, "state", s.state);
  line(text, "queue_depth", std::to_string(s.queue_depth));
  line(text, "max_io_size", std::to_string(s.max_io_size));
  line(text, "policy", s.policy);
  line(text, "failover", failover_text(s, false));
  if (!s.policy.empty())
    line(text, "max_reconnect_attempts", std::to_string(s.max_reconnect_attempts));
  for (const auto& p : s.paths) {
    line(text, "path",
         (p.number == 0 ? "" : fmt::format("{}: ", p.number)) +
             (p.name.empty() ? p.destination : p.name));
    line(text, "  state", state_text(p));
    if (!p.fenced) line(text, "  fence", "waiting for the fence: its writes are held");
    line(text, "  fabric", p.fabric);
    line(text, "  device", p.device);
    line(text, "  error", p.error);
    if (p.latency_us != 0) line(text, "  latency", time_text(p.latency_us));
    line(text, "  reads", fmt::format("{} ({})", p.reads, human_size(p.read_bytes)));
    line(text, "  writes", fmt::format("{} ({})", p.writes, human_size(p.write_bytes)));
    if (p.reconnects + p.reconnect_failures != 0)
      line(text, "  reconnects", fmt::format("{} ({} failed)", p.reconnects, p.reconnect_failures));
  }
  return text;
}

std::string describe(const daemon::DaemonView& d) {
  std::string text;
  line(text, "program", fmt::format("{} {}", d.program, d.version));
  line(text, "pid", std::to_string(d.pid));
  for (const auto& address : d.listen) line(text, "listening on", address);
  line(text, "dev_search_path", d.search_path);
  for (const auto& name : d.exports) line(text, "export", name);
  return text;
}

std::string describe_use(const daemon::DeviceView& d, bool already) {
  std::string text = fmt::format(
      "'{}' of session {} is {}mapped as {} ({}, {})\n", printable(d.volume), printable(d.session),
      already ? "already " : "", d.name, human_size(d.size), d.access_mode);
  line(text, "  block device", d.node);
  line(text, "  file", d.file);
  line(text, "  NBD", d.nbd);
  return text;
}

}  // namespace rnbd::cli
