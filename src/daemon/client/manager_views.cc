// What is told of volumes, sessions and paths.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/admin/runtime.h"
#include "daemon/admin/stages.h"
#include "daemon/client/live_settings.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

std::uint64_t microseconds(Duration time) {
  return static_cast<std::uint64_t>(std::max(time, Duration{}).count() / 1000);
}

// What a connection showed; nothing without one.
std::string text_of(const fabric::Address& address) {
  return address.empty() ? "" : address.to_string();
}

PathView path_view(const rtrs::client::PathInfo& path) {
  PathView view;
  view.name = path.name;
  view.destination = path.address.destination.to_string();
  view.port = path.address.destination.port();
  view.state = rtrs::client::path_state_name(path.state);
  view.fabric = path.fabric;
  view.digest = path.digest;
  view.device = to_text(path.device);
  const bool up = path.state == rtrs::client::PathState::connected;
  if (!up && path.last_error) view.error = path.last_error.message();
  view.fenced = path.fenced;
  view.slow = path.slow;
  view.latency_us = microseconds(path.latency);
  view.latency_ns = static_cast<std::uint64_t>(std::max(path.latency, Duration{}).count());
  view.source_address = text_of(path.connected.source);
  view.destination_address = text_of(path.connected.destination);
  view.reads = path.reads;
  view.read_bytes = path.read_bytes;
  view.writes = path.writes;
  view.write_bytes = path.write_bytes;
  view.inflight = path.inflight;
  view.failed_over = path.failed_over;
  view.errors = path.errors;
  view.reconnects = path.reconnects;
  view.reconnect_failures = path.reconnect_failures;
  view.migrated_from = path.migrated_from;
  view.migrated_to = path.migrated_to;
  view.stages = {stage_view("wire", path.wire)};
  return view;
}

}  // namespace

DeviceView Manager::view_of(const Mapping& mapping, Users users) const {
  DeviceView view;
  view.name = fmt::format("rnbd{}", mapping.number);
  view.volume = mapping.request.device_path;
  view.session = mapping.request.session;
  view.access_mode = mapping.request.access_mode;
  view.nr_poll_queues = mapping.request.nr_poll_queues;
  view.state = mapping.state == State::leaving ? "unmapped" : "init";
  const Presence& presence = mapping.presence;
  view.node = presence.number_link().empty() ? presence.block_device() : presence.number_link();
  if (presence.ublk) view.ublk = presence.ublk->device;
  if (presence.loop) view.loop = presence.loop->device;
  if (mapping.state == State::ready) view.frontend = presence.frontend();
  view.file = frontends_.file_path(mapping.presence);
  view.nbd = frontends_.nbd_uri(mapping.presence);
  view.once = mapping.once;
  view.error = mapping.trouble;
  if (mapping.device == nullptr) return view;
  if (mapping.state == State::ready)
    view.state = client::device_state_name(mapping.device->state());
  if (mapping.device->last_error()) view.error = mapping.device->last_error().message();
  block::Limits limits = mapping.device->limits();
  view.size = limits.size;
  view.logical_block_size = limits.logical_block_size;
  view.physical_block_size = limits.physical_block_size;
  if (mapping.state == State::ready && users == Users::counted)
    view.users = frontends_.user_count(mapping.presence);
  client::DeviceCounters counters = mapping.device->counters();
  view.reads = counters.reads;
  view.read_bytes = counters.read_bytes;
  view.writes = counters.writes;
  view.write_bytes = counters.write_bytes;
  view.others = counters.others;
  view.errors = counters.errors;
  view.inflight = counters.inflight;
  view.held = counters.held;
  view.hold_us = microseconds(mapping.device->hold_timeout());
  view.waiting_us = microseconds(mapping.device->waiting());
  view.stages = {stage_view("queue", counters.queue), stage_view("wire", counters.wire)};
  return view;
}

namespace {

std::string after_prefix(const std::string& destination) {  // host:store1
  return destination.substr(destination.find(':') + 1);
}

}  // namespace

SessionView Manager::view_of(const Session& session) const {
  SessionView view;
  view.name = session.name;
  const SessionHosts hosts = hosts_of_session_name(session.name);
  view.client_host = hosts.client.empty() ? host_name() : hosts.client;
  view.server_host = hosts.server;
  if (hosts.server.empty() && !session.names.empty())
    view.server_host = after_prefix(session.names[0].asked.destination);
  view.state = session.closing ? "closing" : "connecting";
  view.policy = path_policy_name(session.policy);
  view.failover = failover_name(session.failover);
  view.max_reconnect_attempts = session.max_reconnect_attempts;
  const rtrs::client::Session* rtrs = session.client->session();
  if (rtrs == nullptr) return view;
  view.queue_depth = rtrs->limits().queue_depth;
  view.max_io_size = rtrs->limits().max_io_size;
  bool connected = false;
  LatencyCounts queue{}, wire{};
  for (const rtrs::client::PathInfo& path : rtrs->paths()) {
    view.paths.push_back(path_view(path));
    view.paths.back().number = static_cast<std::uint32_t>(view.paths.size());
    wire += path.wire;
    connected = connected || path.state == rtrs::client::PathState::connected;
  }
  add_up(view);
  for (const client::RemoteDevice* device : session.client->devices())
    queue += device->counters().queue;
  view.stages = {stage_view("queue", queue), stage_view("wire", wire)};
  if (connected)
    view.state = "connected";
  else if (view.queue_depth != 0 && !session.closing)
    view.state = "disconnected";
  return view;
}

AdminResponse Manager::list(Users users) const {
  AdminResponse response;
  response.daemon = {.program = "rnbd-client",
                     .version = RNBD_VERSION,
                     .pid = getpid(),
                     .listen = {},
                     .search_path = "",
                     .exports = {}};
  for (const auto& mapping : mappings_) response.devices.push_back(view_of(*mapping, users));
  std::sort(response.devices.begin(), response.devices.end(),
            [](const DeviceView& a, const DeviceView& b) {
              return a.name.size() != b.name.size() ? a.name.size() < b.name.size()
                                                    : a.name < b.name;
            });
  for (const auto& [name, session] : sessions_) response.sessions.push_back(view_of(*session));
  return response;
}

}  // namespace rnbd::daemon
