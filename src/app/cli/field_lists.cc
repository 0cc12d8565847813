#include "app/cli/field_lists.h"

#include <algorithm>
#include <array>

#include "base/log.h"

namespace rnbd::cli {
namespace {

using daemon::DeviceView;
using daemon::OpenView;
using daemon::PathView;
using daemon::SessionView;
using daemon::StageView;

Cell text(std::string_view value) { return {printable(value)}; }
Cell number(std::uint64_t value) { return {{}, value}; }
Cell yes_or_no(bool value) { return {value ? "yes" : "no"}; }

std::uint64_t sum(const SessionView& session, std::uint64_t PathView::*member) {
  std::uint64_t total = 0;
  for (const PathView& path : session.paths) total += path.*member;
  return total;
}

Cell stage(const std::vector<StageView>& stages, std::string_view name,
           std::uint64_t StageView::*member) {
  for (const StageView& stage : stages)
    if (stage.stage == name) return {{}, stage.*member, stage.count != 0};
  return {{}, 0, false};
}

std::string_view policy_letters(std::string_view policy) {
  return policy == "round-robin"    ? "RR"
         : policy == "min-inflight" ? "MI"
         : policy == "min-latency"  ? "ML"
                                    : policy;
}

// "mlx5_0/1" is a device and its port.
std::string_view hca_name(const PathView& path) {
  return std::string_view(path.device).substr(0, path.device.find('/'));
}
std::string_view hca_port(const PathView& path) {
  const std::size_t slash = path.device.find('/');
  return slash == std::string::npos ? "" : std::string_view(path.device).substr(slash + 1);
}

std::string path_name(const PathView& path) {
  return path.name.empty() ? path.destination : path.name;
}
std::string where(const DeviceView& d) {
  return !d.node.empty() ? d.node : !d.file.empty() ? d.file : d.nbd;
}

constexpr bool kShown = true, kTotalled = true;

using D = const DeviceView&;
constexpr std::array kDeviceFields{
    Field<DeviceView>{{"name", "devname", "NAME", Kind::text, kShown, false, "name of the device"},
                      [](D d) { return text(d.name); }},
    Field<DeviceView>{{"size", "size", "SIZE", Kind::bytes, kShown, kTotalled, "its size"},
                      [](D d) { return number(d.size); }},
    Field<DeviceView>{
        {"volume", "mapping_path", "VOLUME", Kind::text, kShown, false, "its name on the server"},
        [](D d) { return text(d.volume); }},
    Field<DeviceView>{{"session", "sessname", "SESSION", Kind::text, kShown, false, "its session"},
                      [](D d) { return text(d.session); }},
    Field<DeviceView>{
        {"access_mode", "access_mode", "MODE", Kind::text, kShown, false, "ro, rw or migration"},
        [](D d) { return text(d.access_mode); }},
    Field<DeviceView>{{"state", "state", "STATE", Kind::text, kShown, false,
                       "open, closed (waits for its server), failed"},
                      [](D d) { return text(d.state); }},
    Field<DeviceView>{{"users", "users", "USERS", Kind::count, kShown, false, "who has it open"},
                      [](D d) { return number(d.users); }},
    Field<DeviceView>{
        {"where", "where", "WHERE", Kind::text, kShown, false, "block device, else file, else NBD"},
        [](D d) { return text(where(d)); }},
    Field<DeviceView>{{"node", "devpath", "NODE", Kind::text, false, false, "block device"},
                      [](D d) { return text(d.node); }},
    Field<DeviceView>{
        {"frontend", "frontend", "FRONTEND", Kind::text, false, false, "ublk, loop, fuse or nbd"},
        [](D d) { return text(d.frontend); }},
    Field<DeviceView>{{"file", "file", "FILE", Kind::text, false, false, "the volume as a file"},
                      [](D d) { return text(d.file); }},
    Field<DeviceView>{{"nbd", "nbd", "NBD", Kind::text, false, false, "the volume as an NBD URI"},
                      [](D d) { return text(d.nbd); }},
    Field<DeviceView>{{"error", "error", "ERROR", Kind::text, false, false, "why it is not open"},
                      [](D d) { return text(d.error); }},
    Field<DeviceView>{{"reads", "reads", "READS", Kind::count, false, kTotalled, "read requests"},
                      [](D d) { return number(d.reads); }},
    Field<DeviceView>{
        {"read_bytes", "rx_bytes", "READ", Kind::bytes, false, kTotalled, "bytes read"},
        [](D d) { return number(d.read_bytes); }},
    Field<DeviceView>{{"read_sectors", "rx_sect", "RX SECT", Kind::count, false, kTotalled,
                       "the same in sectors of 512 bytes"},
                      [](D d) { return number(d.read_bytes / 512); }},
    Field<DeviceView>{
        {"writes", "writes", "WRITES", Kind::count, false, kTotalled, "write requests"},
        [](D d) { return number(d.writes); }},
    Field<DeviceView>{
        {"write_bytes", "tx_bytes", "WRITTEN", Kind::bytes, false, kTotalled, "bytes written"},
        [](D d) { return number(d.write_bytes); }},
    Field<DeviceView>{{"written_sectors", "tx_sect", "TX SECT", Kind::count, false, kTotalled,
                       "the same in sectors of 512 bytes"},
                      [](D d) { return number(d.write_bytes / 512); }},
    Field<DeviceView>{
        {"errors", "errors", "ERRORS", Kind::count, false, kTotalled, "requests that failed"},
        [](D d) { return number(d.errors); }},
    Field<DeviceView>{
        {"inflight", "inflights", "INFLIGHT", Kind::count, false, kTotalled, "requests under way"},
        [](D d) { return number(d.inflight); }},
    Field<DeviceView>{{"held", "held", "HELD", Kind::count, false, kTotalled,
                       "requests that wait for the server"},
                      [](D d) { return number(d.held); }},
    Field<DeviceView>{{"hold_us", "hold_us", "HOLD", Kind::time, false, false,
                       "how long they may wait; 0: for ever"},
                      [](D d) { return number(d.hold_us); }},
    Field<DeviceView>{
        {"waiting_us", "waiting_us", "WAITING", Kind::time, false, false, "how long they have"},
        [](D d) { return number(d.waiting_us); }},
    Field<DeviceView>{{"queue_p99", "queue_p99", "QUEUE P99", Kind::time, false, false,
                       "time in this machine's queues, 99th percentile"},
                      [](D d) { return stage(d.stages, "queue", &StageView::p99_us); }},
    Field<DeviceView>{{"wire_p50", "wire_p50", "WIRE P50", Kind::time, false, false,
                       "time from sent to answered, median"},
                      [](D d) { return stage(d.stages, "wire", &StageView::p50_us); }},
    Field<DeviceView>{
        {"wire_p99", "wire_p99", "WIRE P99", Kind::time, false, false, "the same, 99th percentile"},
        [](D d) { return stage(d.stages, "wire", &StageView::p99_us); }},
    Field<DeviceView>{
        {"once", "once", "ONCE", Kind::text, false, false, "not mapped again after a reboot"},
        [](D d) { return yes_or_no(d.once); }},
    Field<DeviceView>{{"direction", "direction", "DIRECTION", Kind::text, false, false, "import"},
                      [](D) { return text("import"); }},
};

using S = const SessionRow&;
constexpr std::array kSessionFields{
    Field<SessionRow>{{"name", "sessname", "SESSION", Kind::text, kShown, false, "its name"},
                      [](S s) { return text(s.session.name); }},
    Field<SessionRow>{
        {"state", "state", "STATE", Kind::text, kShown, false, "connected or disconnected"},
        [](S s) { return text(s.session.state); }},
    Field<SessionRow>{{"path_letters", "path_uu", "PS", Kind::text, kShown, false,
                       "a letter per path: U connected, _ not"},
                      [](S s) { return Cell{path_letters(s.session)}; }},
    Field<SessionRow>{
        {"path_count", "path_cnt", "PATHS", Kind::count, kShown, false, "how many paths"},
        [](S s) { return number(s.session.paths.size()); }},
    Field<SessionRow>{
        {"connected_paths", "act_path_cnt", "UP", Kind::count, false, false, "connected ones"},
        [](S s) {
          const std::string letters = path_letters(s.session);
          return number(
              static_cast<std::uint64_t>(std::count(letters.begin(), letters.end(), 'U')));
        }},
    Field<SessionRow>{
        {"queue_depth", "queue_depth", "DEPTH", Kind::count, kShown, false, "requests at a time"},
        [](S s) { return number(s.session.queue_depth); }},
    Field<SessionRow>{
        {"max_io_size", "max_io_size", "MAX IO", Kind::bytes, kShown, false, "largest request"},
        [](S s) { return number(s.session.max_io_size); }},
    Field<SessionRow>{
        {"read_bytes", "rx_bytes", "READ", Kind::bytes, kShown, kTotalled, "bytes read"},
        [](S s) { return number(sum(s.session, &PathView::read_bytes)); }},
    Field<SessionRow>{
        {"write_bytes", "tx_bytes", "WRITTEN", Kind::bytes, kShown, kTotalled, "bytes written"},
        [](S s) { return number(sum(s.session, &PathView::write_bytes)); }},
    Field<SessionRow>{
        {"inflight", "inflights", "INFLIGHT", Kind::count, kShown, kTotalled, "requests under way"},
        [](S s) { return number(sum(s.session, &PathView::inflight)); }},
    Field<SessionRow>{
        {"policy", "mp", "POLICY", Kind::text, kShown, false, "how requests choose a path; client"},
        [](S s) { return text(s.session.policy); }},
    Field<SessionRow>{
        {"policy_letters", "mp_short", "MP", Kind::text, false, false, "the same: RR, MI, ML"},
        [](S s) { return text(policy_letters(s.session.policy)); }},
    Field<SessionRow>{
        {"failover", "failover", "FAILOVER", Kind::text, kShown, false, "fenced or immediate"},
        [](S s) {
          return text(s.session.failover == "immediate" ? "immediate, UNSAFE" : s.session.failover);
        }},
    Field<SessionRow>{
        {"reconnects", "reconnects", "RECONNECTS", Kind::count, false, kTotalled, "of all paths"},
        [](S s) { return number(sum(s.session, &PathView::reconnects)); }},
    Field<SessionRow>{{"errors", "errors", "ERRORS", Kind::count, false, kTotalled,
                       "requests that ended in an error"},
                      [](S s) { return number(sum(s.session, &PathView::errors)); }},
    Field<SessionRow>{{"client_host", "clt_hostname", "CLIENT", Kind::text, false, false,
                       "host name of the client, where known"},
                      [](S s) { return text(s.session.client_host); }},
    Field<SessionRow>{{"server_host", "srv_hostname", "SERVER", Kind::text, false, false,
                       "host name of the server, where known"},
                      [](S s) { return text(s.session.server_host); }},
    Field<SessionRow>{
        {"direction", "direction", "DIRECTION", Kind::text, false, false, "outgoing or incoming"},
        [](S s) { return text(s.server ? "incoming" : "outgoing"); }},
};

using P = const PathRow&;
constexpr std::array kPathFields{
    Field<PathRow>{{"session", "sessname", "SESSION", Kind::text, kShown, false, "its session"},
                   [](P p) { return text(p.session.name); }},
    Field<PathRow>{{"number", "number", "NO", Kind::count, kShown, false, "names it to commands"},
                   [](P p) { return number(p.path.number); }},
    Field<PathRow>{{"name", "pathname", "PATH", Kind::text, kShown, false, "source@destination"},
                   [](P p) { return text(path_name(p.path)); }},
    Field<PathRow>{{"state", "state", "STATE", Kind::text, kShown, false,
                    "connected, reconnecting, closed, ..."},
                   [](P p) { return text(p.path.slow ? p.path.state + ", slow" : p.path.state); }},
    Field<PathRow>{
        {"path_letters", "path_uu", "PS", Kind::text, false, false, "U connected, _ not"},
        [](P p) { return text(p.path.state == "connected" ? "U" : "_"); }},
    Field<PathRow>{{"fenced", "fenced", "FENCED", Kind::text, kShown, false,
                    "waiting: writes of its last connection are held"},
                   [](P p) { return text(p.path.fenced ? "yes" : "waiting"); }},
    Field<PathRow>{{"fabric", "fabric", "FABRIC", Kind::text, kShown, false,
                    "iwarp (TCP, Unix sockets), or the RDMA device and port"},
                   [](P p) { return text(p.path.device.empty() ? p.path.fabric : p.path.device); }},
    Field<PathRow>{
        {"latency_us", "latency", "LATENCY", Kind::time, kShown, false, "of the last heartbeat"},
        [](P p) { return number(p.path.latency_us); }},
    Field<PathRow>{{"read_bytes", "rx_bytes", "READ", Kind::bytes, kShown, kTotalled, "bytes read"},
                   [](P p) { return number(p.path.read_bytes); }},
    Field<PathRow>{
        {"write_bytes", "tx_bytes", "WRITTEN", Kind::bytes, kShown, kTotalled, "bytes written"},
        [](P p) { return number(p.path.write_bytes); }},
    Field<PathRow>{
        {"inflight", "inflights", "INFLIGHT", Kind::count, kShown, kTotalled, "requests under way"},
        [](P p) { return number(p.path.inflight); }},
    Field<PathRow>{{"reconnects", "reconnects", "RECONNECTS", Kind::count, kShown, kTotalled,
                    "how often it came back"},
                   [](P p) { return number(p.path.reconnects); }},
    Field<PathRow>{
        {"error", "error", "ERROR", Kind::text, kShown, false, "why it is not connected"},
        [](P p) { return text(p.path.error); }},
    Field<PathRow>{{"destination", "destination", "DESTINATION", Kind::text, false, false,
                    "as it was configured"},
                   [](P p) { return text(p.path.destination); }},
    Field<PathRow>{
        {"source_address", "src_addr", "SOURCE", Kind::text, false, false, "address of the client"},
        [](P p) { return text(p.path.source_address); }},
    Field<PathRow>{{"destination_address", "dst_addr", "ADDRESS", Kind::text, false, false,
                    "address of the server"},
                   [](P p) { return text(p.path.destination_address); }},
    Field<PathRow>{{"port", "port", "PORT", Kind::count, false, false, "port of the server"},
                   [](P p) { return number(p.path.port); }},
    Field<PathRow>{{"hca_name", "hca_name", "HCA", Kind::text, false, false, "RDMA device"},
                   [](P p) { return text(hca_name(p.path)); }},
    Field<PathRow>{{"hca_port", "hca_port", "HCA PORT", Kind::text, false, false, "and its port"},
                   [](P p) { return text(hca_port(p.path)); }},
    Field<PathRow>{{"digest", "digest", "DIGEST", Kind::text, false, false,
                    "what guards the bytes on their way: crc32c, icrc (RDMA), none"},
                   [](P p) { return text(p.path.digest); }},
    Field<PathRow>{{"connections", "con_cnt", "CONNECTIONS", Kind::count, false, kTotalled,
                    "how many it has; server"},
                   [](P p) { return number(p.path.connections); }},
    Field<PathRow>{{"failed_over", "failed_over", "FAILED OVER", Kind::count, false, kTotalled,
                    "requests of other paths sent again here"},
                   [](P p) { return number(p.path.failed_over); }},
    Field<PathRow>{{"errors", "errors", "ERRORS", Kind::count, false, kTotalled,
                    "requests that ended in an error"},
                   [](P p) { return number(p.path.errors); }},
    Field<PathRow>{
        {"direction", "direction", "DIRECTION", Kind::text, false, false, "outgoing or incoming"},
        [](P p) { return text(p.server ? "incoming" : "outgoing"); }},
};

using O = const OpenView&;
constexpr std::array kOpenFields{
    Field<OpenView>{
        {"name", "devname", "NAME", Kind::text, false, false, "last part of the device behind it"},
        [](O o) { return text(o.device.substr(o.device.find_last_of('/') + 1)); }},
    Field<OpenView>{{"volume", "mapping_path", "VOLUME", Kind::text, kShown, false, "its name"},
                    [](O o) { return text(o.volume); }},
    Field<OpenView>{{"size", "size", "SIZE", Kind::bytes, kShown, false, "its size"},
                    [](O o) { return number(o.size); }},
    Field<OpenView>{
        {"session", "sessname", "SESSION", Kind::text, kShown, false, "whose client has it"},
        [](O o) { return text(o.session); }},
    Field<OpenView>{
        {"device_id", "device_id", "ID", Kind::count, kShown, false, "its number in the session"},
        [](O o) { return number(o.device_id); }},
    Field<OpenView>{
        {"access_mode", "access_mode", "MODE", Kind::text, kShown, false, "ro, rw or migration"},
        [](O o) { return text(o.access_mode); }},
    Field<OpenView>{
        {"read_bytes", "rx_bytes", "READ", Kind::bytes, kShown, kTotalled, "bytes read"},
        [](O o) { return number(o.read_bytes); }},
    Field<OpenView>{
        {"write_bytes", "tx_bytes", "WRITTEN", Kind::bytes, kShown, kTotalled, "bytes written"},
        [](O o) { return number(o.write_bytes); }},
    Field<OpenView>{
        {"errors", "errors", "ERRORS", Kind::count, kShown, kTotalled, "requests that failed"},
        [](O o) { return number(o.errors); }},
    Field<OpenView>{
        {"device", "devpath", "DEVICE", Kind::text, false, false, "block device or file behind it"},
        [](O o) { return text(o.device); }},
    Field<OpenView>{{"reads", "reads", "READS", Kind::count, false, kTotalled, "read requests"},
                    [](O o) { return number(o.reads); }},
    Field<OpenView>{{"writes", "writes", "WRITES", Kind::count, false, kTotalled, "write requests"},
                    [](O o) { return number(o.writes); }},
    Field<OpenView>{
        {"inflight", "inflights", "INFLIGHT", Kind::count, false, kTotalled, "requests under way"},
        [](O o) { return number(o.inflight); }},
    Field<OpenView>{{"read_sectors", "rx_sect", "RX SECT", Kind::count, false, kTotalled,
                     "read, in sectors of 512 bytes"},
                    [](O o) { return number(o.read_bytes / 512); }},
    Field<OpenView>{{"written_sectors", "tx_sect", "TX SECT", Kind::count, false, kTotalled,
                     "written, in sectors of 512 bytes"},
                    [](O o) { return number(o.write_bytes / 512); }},
    Field<OpenView>{{"read_only", "read_only", "READ ONLY", Kind::text, false, false, "yes or no"},
                    [](O o) { return yes_or_no(o.read_only); }},
    Field<OpenView>{{"flush_failed", "flush_failed", "FLUSH", Kind::text, false, false,
                     "failed: flushes are refused until 'rnbd server recover'"},
                    [](O o) { return text(o.flush_failed ? "failed" : "ok"); }},
    Field<OpenView>{{"server_p99", "server_p99", "SERVER P99", Kind::time, false, false,
                     "time in the server without its disk, 99th percentile"},
                    [](O o) { return stage(o.stages, "server", &StageView::p99_us); }},
    Field<OpenView>{{"backend_p99", "backend_p99", "BACKEND P99", Kind::time, false, false,
                     "time in its disk, 99th percentile"},
                    [](O o) { return stage(o.stages, "backend", &StageView::p99_us); }},
    Field<OpenView>{{"direction", "direction", "DIRECTION", Kind::text, false, false, "export"},
                    [](O) { return text("export"); }},
};

}  // namespace

std::span<const Field<DeviceView>> device_fields() { return kDeviceFields; }
std::span<const Field<SessionRow>> session_fields() { return kSessionFields; }
std::span<const Field<PathRow>> path_fields() { return kPathFields; }
std::span<const Field<OpenView>> open_fields() { return kOpenFields; }

}  // namespace rnbd::cli
