// What rnbd-server shows: rnbd-server/ctl with the volumes clients have open, rtrs-server with its
// paths, and the modules' parameters.

#include <fmt/format.h>

#include <algorithm>

#include "daemon/tree/builder.h"

namespace rnbd::daemon {
namespace {

auto words(const char* text) {
  return [text] { return std::string(text); };
}
auto yes(bool value) {
  return [value] { return std::string(value ? "1" : "0"); };
}

struct Backing {
  std::string name;    // of its directory
  std::string link;    // where block_dev leads
  bool block = false;  // a block device of this machine
};

// A block device has its kernel name ("ram0", "mapper!vg-lv"), a file its path below
// dev_search_path, anything else the name clients give it.
Backing backing_of(const OpenView& open, std::string_view search_path) {
  constexpr std::string_view kDev = "/dev/";
  std::string_view device = open.device;
  if (device.starts_with(kDev)) {
    const std::string name = component(device.substr(kDev.size()));
    return {name, "../../../../block/" + name, true};
  }
  std::string_view root = search_path.substr(0, search_path.find('%'));
  while (root.ends_with('/')) root.remove_suffix(1);
  std::string_view name = device;
  if (name.starts_with(root) && name.substr(root.size()).starts_with('/'))
    name.remove_prefix(root.size() + 1);
  if (name.empty()) {  // a volume in memory, or one whose place is not told
    name = open.volume;
    while (name.starts_with('/')) name.remove_prefix(1);
  }
  return {component(name), std::string(device), false};
}

void add_open(Builder& b, const std::string& dir, const OpenView& open) {
  if (!b.directory(dir)) return;
  b.attribute(dir, "access_mode", [&] { return open.access_mode; });
  b.attribute(dir, "mapping_path", [&] { return open.volume; });
  b.attribute(dir, "read_only", yes(open.read_only || open.access_mode == "ro"));
  const auto command = [&](const char* name, Action action) {
    Node* node =
        b.writable(dir, name, action, [&] { return fmt::format("Usage: echo 1 > {}", name); });
    if (node == nullptr) return;
    node->volume = open.volume;
    node->session = open.session;
    node->last_error = dir + "/last_error";
  };
  command("force_close", Action::force_close);
  // Ours.
  command("recover", Action::recover_volume);
  b.attribute(dir, "size", [&] { return std::to_string(open.size / 512); });
  b.attribute(dir, "flush_failed", yes(open.flush_failed));
  b.attribute(dir, "io", [&] {
    return fmt::format("{} {} {} {} {} {}", open.reads, open.read_bytes, open.writes,
                       open.write_bytes, open.errors, open.inflight);
  });
  add_latency(b, dir, open.stages);
  b.last_error(dir);
}

void add_ctl(Builder& b, const AdminResponse& state) {
  const std::string dir = "devices/virtual/rnbd-server/ctl";
  b.directory("class/rnbd-server");
  b.link("class/rnbd-server/ctl", "../../devices/virtual/rnbd-server/ctl");
  b.directory("devices/virtual/block");
  for (const OpenView& open : state.opens) {
    const Backing backing = backing_of(open, state.daemon.search_path);
    if (backing.block)
      b.link("devices/virtual/block/" + backing.name, "/sys/class/block/" + backing.name);
  }
  if (!b.directory("devices/virtual/rnbd-server") || !b.directory(dir)) return;
  b.device_files(dir, "../../../../class/rnbd-server");
  if (!b.directory(dir + "/devices")) return;
  for (const OpenView& open : state.opens) {
    const Backing backing = backing_of(open, state.daemon.search_path);
    const std::string device = dir + "/devices/" + backing.name;
    if (!b.directory(device)) continue;
    if (!backing.link.empty()) b.link(device + "/block_dev", backing.link);
    b.directory(device + "/sessions");
    add_open(b, device + "/sessions/" + component(open.session), open);
  }
}

void add_path(Builder& b, const std::string& dir, const SessionView& session, std::size_t index) {
  if (!b.directory(dir)) return;
  const PathView& path = session.paths[index];
  const auto about = [&](Node* node) {
    if (node == nullptr) return;
    node->session = session.name;
    node->path_word = path_word(session, index);
    node->last_error = dir + "/last_error";
  };
  b.attribute(dir, "src_addr", [&] { return source_of(path); });
  b.attribute(dir, "dst_addr", [&] { return destination_of(path); });
  b.attribute(dir, "hca_name", [&] { return hca_name(path); });
  b.attribute(dir, "hca_port", [&] { return hca_port(path); });
  about(b.writable(dir, "disconnect", Action::disconnect, words("Usage: echo 1 > disconnect")));
  // Ours.
  b.attribute(dir, "fabric", [&] { return path.fabric; });
  b.attribute(dir, "digest", [&] { return path.digest; });
  b.attribute(dir, "phase", [&] { return path.state; });
  b.attribute(dir, "connections", [&] { return std::to_string(path.connections); });
  b.last_error(dir);
  const std::string stats = dir + "/stats";
  if (!b.directory(stats)) return;
  Node* rdma = b.writable(stats, "rdma", Action::reset, [&] {
    return fmt::format("{} {} {} {}", path.reads, path.read_bytes, path.writes, path.write_bytes);
  });
  if (rdma != nullptr) rdma->counters = "rdma";
  about(rdma);
  b.attribute(stats, "inflight", [&] { return std::to_string(path.inflight); });
  b.attribute(stats, "errors", [&] { return std::to_string(path.errors); });
  add_latency(b, stats, path.stages);
}

void add_session(Builder& b, const SessionView& session) {
  const std::string name = component(session.name);
  const std::string dir = "devices/virtual/rtrs-server/" + name;
  b.link("class/rtrs-server/" + name, "../../" + dir);
  if (!b.touches(dir)) return;
  b.directory(dir);
  b.device_files(dir, "../../../../class/rtrs-server");
  b.attribute(dir, "state", [&] { return session.state; });
  b.attribute(dir, "queue_depth", [&] { return std::to_string(session.queue_depth); });
  b.attribute(dir, "client_host", [&] { return session.client_host; });
  b.attribute(dir, "server_host", [&] { return session.server_host; });
  b.attribute(dir, "io", [&] {
    return fmt::format("{} {} {} {} {} {}", session.reads, session.read_bytes, session.writes,
                       session.write_bytes, session.errors, session.inflight);
  });
  add_latency(b, dir, session.stages);
  b.directory(dir + "/paths");
  const auto names = path_names(session);
  for (std::size_t i = 0; i < session.paths.size(); ++i)
    add_path(b, dir + "/paths/" + names[i], session, i);
}

void add_parameters(Builder& b, const DaemonView& daemon) {
  b.directory("module/rnbd_server");
  const std::string rnbd = "module/rnbd_server/parameters";
  b.directory(rnbd);
  b.attribute(rnbd, "port_nr", [&] { return std::to_string(daemon.port_nr); });
  b.attribute(rnbd, "dev_search_path", [&] { return daemon.search_path; });
  b.directory("module/rtrs_server");
  const std::string rtrs = "module/rtrs_server/parameters";
  b.directory(rtrs);
  b.attribute(rtrs, "always_invalidate", words(daemon.always_invalidate ? "Y" : "N"));
  b.attribute(rtrs, "max_chunk_size", [&] { return std::to_string(daemon.max_chunk_size); });
  b.attribute(rtrs, "sess_queue_depth", [&] { return std::to_string(daemon.sess_queue_depth); });
}

}  // namespace

void add_server(Builder& b, const TreeInput& input) {
  add_parameters(b, input.state.daemon);
  add_ctl(b, input.state);
  b.directory("class/rtrs-server");
  if (!input.state.sessions.empty()) b.directory("devices/virtual/rtrs-server");
  for (const SessionView& session : input.state.sessions)
    if (!session.paths.empty()) add_session(b, session);
}

}  // namespace rnbd::daemon
