#include "app/cli/describe.h"

#include <fmt/format.h>

#include "app/cli/render.h"
#include "base/log.h"
#include "daemon/admin/units.h"

namespace rnbd::cli {
namespace {

using daemon::human_size;

void line(std::string& text, std::string_view name, const std::string& value) {
  if (!value.empty())
    text += fmt::format("{:<20} {}\n", fmt::format("{}:", name), printable(value));
}

std::uint64_t whole_ms(std::uint64_t us) { return us / 1000 * 1000; }

std::string state_text(const daemon::PathView& path) {
  return path.slow ? path.state + ", slow" : path.state;
}

std::string failover_text(const daemon::SessionView& session) {
  if (session.failover == "immediate") return "immediate, UNSAFE";
  return session.failover;
}

// Where requests spent their time.
void stage_lines(std::string& text, std::string_view indent,
                 const std::vector<daemon::StageView>& stages) {
  for (const auto& stage : stages)
    if (stage.count != 0)
      line(text, fmt::format("{}time, {}", indent, stage.stage),
           fmt::format("p50 {}, p99 {}, most {} ({} requests)", time_text(stage.p50_us),
                       time_text(stage.p99_us), time_text(stage.max_us), stage.count));
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
  if (d.once) line(text, "after a reboot", "not mapped again (--once)");
  stage_lines(text, "", d.stages);
  return text;
}

std::string describe(const daemon::SessionView& s) {
  std::string text;
  line(text, "session", s.name);
  line(text, "state", s.state);
  line(text, "queue_depth", std::to_string(s.queue_depth));
  line(text, "max_io_size", std::to_string(s.max_io_size));
  line(text, "policy", s.policy);
  line(text, "failover", failover_text(s));
  if (!s.policy.empty())
    line(text, "max_reconnect_attempts", std::to_string(s.max_reconnect_attempts));
  line(text, "client host", s.client_host);
  line(text, "server host", s.server_host);
  stage_lines(text, "", s.stages);
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
    if (p.failed_over != 0) line(text, "  failed over", std::to_string(p.failed_over));
    if (p.errors != 0) line(text, "  errors", std::to_string(p.errors));
    stage_lines(text, "  ", p.stages);
  }
  return text;
}

std::string describe(const daemon::OpenView& o) {
  std::string text;
  line(text, "volume", o.volume);
  line(text, "session", o.session);
  line(text, "access_mode", o.access_mode);
  line(text, "size", fmt::format("{} ({})", o.size, human_size(o.size)));
  line(text, "device", o.device);
  line(text, "reads", fmt::format("{} ({})", o.reads, human_size(o.read_bytes)));
  line(text, "writes", fmt::format("{} ({})", o.writes, human_size(o.write_bytes)));
  line(text, "errors", std::to_string(o.errors));
  line(text, "in flight", std::to_string(o.inflight));
  if (o.flush_failed)
    line(text, "flush", "failed: flushes are refused until 'rnbd server recover'");
  stage_lines(text, "", o.stages);
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
