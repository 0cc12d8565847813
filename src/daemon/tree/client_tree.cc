// What rnbd-client shows: rnbd-client/ctl, the block devices, rtrs-client with its paths.

#include <fmt/format.h>

#include <algorithm>

#include "base/device_links.h"
#include "daemon/admin/units.h"
#include "daemon/tree/builder.h"

namespace rnbd::daemon {
namespace {

constexpr const char* kMapUsage =
    "Usage: echo \"[dest_port=server port number] sessname=<name of the rtrs session> "
    "path=<[srcaddr@]dstaddr> [path=<[srcaddr@]dstaddr>] device_path=<full path on remote side> "
    "[access_mode=<ro|rw|migration>] [nr_poll_queues=<number of queues>]\" > map_device\n\n"
    "addr ::= [ ip:<ipv4> | ip:<ipv6> | gid:<gid> ]";
constexpr const char* kAddPathUsage =
    "Usage: echo [<source addr>@]<destination addr> > add_path\n\n"
    "*addr ::= [ ip:<ipv4|ipv6> | gid:<gid> ]";

auto words(const char* text) {
  return [text] { return std::string(text); };
}
auto yes(bool value) {
  return [value] { return std::string(value ? "1" : "0"); };
}

std::string time_text(std::uint64_t us) {
  return format_duration(std::chrono::microseconds(static_cast<std::int64_t>(us)));
}

// The kernel has no word for a device that gave up: it is closed, and `failed` tells.
std::string state_text(const DeviceView& device) {
  return device.state == "failed" ? "closed" : device.state;
}

std::string policy_text(const std::string& policy) {
  if (policy == "round-robin") return "round-robin (RR: 0)";
  if (policy == "min-latency") return "min-latency (ML: 2)";
  return "min-inflight (MI: 1)";
}

void add_ctl(Builder& b, const AdminResponse& state) {
  const std::string dir = "devices/virtual/rnbd-client/ctl";
  b.directory("class/rnbd-client");
  b.link("class/rnbd-client/ctl", "../../devices/virtual/rnbd-client/ctl");
  if (!b.directory("devices/virtual/rnbd-client") || !b.directory(dir)) return;
  b.device_files(dir, "../../../../class/rnbd-client");
  if (Node* node = b.writable(dir, "map_device", Action::map_device, words(kMapUsage)))
    node->last_error = dir + "/last_error";
  b.last_error(dir);
  if (!b.directory(dir + "/devices")) return;
  for (const DeviceView& device : state.devices) {
    if (device.state == "init") continue;
    b.link(dir + "/devices/" + component(device.volume + "@" + device.session),
           "../../../block/" + component(device.name));
  }
}

// The kernel's files in <block device>/rnbd, with ours beside them.
void add_rnbd_files(Builder& b, const std::string& dir, const DeviceView& device) {
  if (!b.directory(dir)) return;
  b.attribute(dir, "access_mode", [&] { return device.access_mode; });
  b.attribute(dir, "mapping_path", [&] { return device.volume; });
  b.attribute(dir, "nr_poll_queues", [&] { return std::to_string(device.nr_poll_queues); });
  b.attribute(dir, "session", [&] { return device.session; });
  b.attribute(dir, "state", [&] { return state_text(device); });
  const auto writable = [&](std::string_view name, Action action, auto text) {
    Node* node = b.writable(dir, name, action, text);
    if (node == nullptr) return;
    node->device = device.name;
    node->last_error = dir + "/last_error";
  };
  writable("unmap_device", Action::unmap_device,
           words("Usage: echo <normal|force> > unmap_device"));
  writable("resize", Action::resize, words("Usage: echo <new size in sectors> > resize"));
  writable("remap_device", Action::remap_device, words("Usage: echo <1> > remap_device"));
  // Ours.
  writable("hold", Action::hold,
           [&] { return device.hold_us == 0 ? "forever" : time_text(device.hold_us); });
  writable("recover", Action::recover_device, words("Usage: echo 1 > recover"));
  b.attribute(dir, "waiting", [&] { return time_text(device.waiting_us); });
  b.attribute(dir, "failed", yes(device.state == "failed"));
  b.attribute(dir, "error", [&] { return device.error; });
  b.attribute(dir, "users", [&] { return std::to_string(device.users); });
  b.attribute(dir, "frontend", [&] { return device.frontend; });
  b.attribute(dir, "node", [&] { return device.node; });
  b.attribute(dir, "file", [&] { return device.file; });
  b.attribute(dir, "nbd", [&] { return device.nbd; });
  b.attribute(dir, "io", [&] {
    return fmt::format("{} {} {} {} {} {} {} {}", device.reads, device.read_bytes, device.writes,
                       device.write_bytes, device.others, device.errors, device.inflight,
                       device.held);
  });
  add_latency(b, dir, device.stages);
  b.last_error(dir);
}

void add_device(Builder& b, const DeviceView& device) {
  const std::string name = component(device.name);
  const std::string dir = "devices/virtual/block/" + name;
  b.link("block/" + name, "../" + dir);
  b.link("class/block/" + name, "../../" + dir);
  if (!b.touches(dir)) return;
  b.directory(dir);
  b.device_files(dir, "../../../../class/block", "DEVNAME=" + name + "\nDEVTYPE=disk\n");
  b.attribute(dir, "size", [&] { return std::to_string(device.size / 512); });
  b.attribute(dir, "ro", yes(device.access_mode == "ro"));
  add_rnbd_files(b, dir + "/rnbd", device);
}

// One number per CPU, each with a blank behind it.
std::string per_cpu(const std::vector<std::uint64_t>& counts, unsigned cpus) {
  std::string text;
  for (std::size_t i = 0; i < std::max<std::size_t>(counts.size(), cpus); ++i)
    text += fmt::format("{} ", i < counts.size() ? counts[i] : 0);
  return text;
}

struct PathPlace {
  std::string dir;
  std::string session;
  std::string word;
};

void add_path_stats(Builder& b, const PathPlace& place, const PathView& path, unsigned cpus) {
  const std::string dir = place.dir + "/stats";
  if (!b.directory(dir)) return;
  const auto counter = [&](std::string_view name, const char* counters, auto text) {
    Node* node = b.writable(dir, name, Action::reset, text);
    if (node == nullptr) return;
    node->session = place.session;
    node->path_word = place.word;
    node->counters = counters;
    node->last_error = place.dir + "/last_error";
  };
  counter("rdma", "rdma", [&] {
    return fmt::format("{} {} {} {} {} {}", path.reads, path.read_bytes, path.writes,
                       path.write_bytes, path.inflight, path.failed_over);
  });
  counter("reconnects", "reconnects",
          [&] { return fmt::format("{} {}", path.reconnects, path.reconnect_failures); });
  counter("cpu_migration_from", "cpu_migration_from",
          [&] { return per_cpu(path.migrated_from, cpus); });
  counter("cpu_migration_to", "cpu_migration_to", [&] { return per_cpu(path.migrated_to, cpus); });
  counter("reset_all", "all", words("echo 1 to reset all statistics"));
  b.attribute(dir, "errors", [&] { return std::to_string(path.errors); });
  add_latency(b, dir, path.stages);
}

void add_path(Builder& b, const PathPlace& place, const PathView& path, unsigned cpus) {
  const std::string& dir = place.dir;
  if (!b.directory(dir)) return;
  b.attribute(dir, "state", words(path.state == "connected" ? "connected" : "disconnected"));
  b.attribute(dir, "src_addr", [&] { return source_of(path); });
  b.attribute(dir, "dst_addr", [&] { return destination_of(path); });
  b.attribute(dir, "hca_name", [&] { return hca_name(path); });
  b.attribute(dir, "hca_port", [&] { return hca_port(path); });
  b.attribute(dir, "cur_latency", [&] {
    return fmt::format("{} ns", path.latency_ns != 0 ? path.latency_ns : path.latency_us * 1000);
  });
  const auto command = [&](const char* name, Action action) {
    Node* node =
        b.writable(dir, name, action, [&] { return fmt::format("Usage: echo 1 > {}", name); });
    if (node == nullptr) return;
    node->session = place.session;
    node->path_word = place.word;
    node->last_error = dir + "/last_error";
  };
  command("reconnect", Action::reconnect);
  command("disconnect", Action::disconnect);
  command("remove_path", Action::remove_path);
  // Ours.
  b.attribute(dir, "fabric", [&] { return path.fabric; });
  b.attribute(dir, "digest", [&] { return path.digest; });
  b.attribute(dir, "port", [&] { return std::to_string(path.port); });
  b.attribute(dir, "phase", [&] { return path.state; });
  b.attribute(dir, "fenced", yes(path.fenced));
  b.attribute(dir, "slow", yes(path.slow));
  b.attribute(dir, "error", [&] { return path.error; });
  b.last_error(dir);
  add_path_stats(b, place, path, cpus);
}

void add_session(Builder& b, const SessionView& session, unsigned cpus) {
  const std::string name = component(session.name);
  const std::string dir = "devices/virtual/rtrs-client/" + name;
  b.link("class/rtrs-client/" + name, "../../" + dir);
  if (!b.touches(dir)) return;
  b.directory(dir);
  b.device_files(dir, "../../../../class/rtrs-client");
  const auto writable = [&](std::string_view file, Action action, auto text) {
    Node* node = b.writable(dir, file, action, text);
    if (node == nullptr) return;
    node->session = session.name;
    node->last_error = dir + "/last_error";
  };
  writable("add_path", Action::add_path, words(kAddPathUsage));
  writable("max_reconnect_attempts", Action::max_reconnect_attempts,
           [&] { return std::to_string(session.max_reconnect_attempts); });
  writable("mpath_policy", Action::mpath_policy, [&] { return policy_text(session.policy); });
  // Ours.
  b.attribute(dir, "state", [&] { return session.state; });
  b.attribute(dir, "failover", [&] { return session.failover; });
  b.attribute(dir, "queue_depth", [&] { return std::to_string(session.queue_depth); });
  b.attribute(dir, "max_io_size", [&] { return std::to_string(session.max_io_size); });
  b.attribute(dir, "client_host", [&] { return session.client_host; });
  b.attribute(dir, "server_host", [&] { return session.server_host; });
  b.attribute(dir, "io", [&] {
    return fmt::format("{} {} {} {} {} {} {}", session.reads, session.read_bytes, session.writes,
                       session.write_bytes, session.errors, session.inflight, session.reconnects);
  });
  add_latency(b, dir, session.stages);
  b.last_error(dir);
  if (!b.directory(dir + "/paths")) return;
  const auto names = path_names(session);
  for (std::size_t i = 0; i < session.paths.size(); ++i)
    add_path(b, {dir + "/paths/" + names[i], session.name, path_word(session, i)}, session.paths[i],
             cpus);
}

}  // namespace

void add_client(Builder& b, const TreeInput& input) {
  b.directory("module/rnbd_client");
  b.directory("module/rtrs_client");
  add_ctl(b, input.state);
  b.directory("class/rtrs-client");
  if (!input.state.sessions.empty()) b.directory("devices/virtual/rtrs-client");
  for (const SessionView& session : input.state.sessions) add_session(b, session, input.cpus);
  b.directory("class/block");
  b.directory("devices/virtual/block");
  for (const DeviceView& device : input.state.devices)
    if (device.state != "init") add_device(b, device);
}

}  // namespace rnbd::daemon
