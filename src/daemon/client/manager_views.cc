// What is told of volumes, sessions and paths.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/client/live_settings.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

std::uint64_t microseconds(Duration time) {
  return static_cast<std::uint64_t>(std::max(time, Duration{}).count() / 1000);
}

}  // namespace

DeviceView Manager::view_of(const Mapping& mapping) const {
  DeviceView view;
  view.name = fmt::format("rnbd{}", mapping.number);
  view.volume = mapping.request.device_path;
  view.session = mapping.request.session;
  view.access_mode = mapping.request.access_mode;
  view.state = mapping.state == State::leaving ? "unmapped" : "init";
  const Presence& presence = mapping.presence;
  view.node = presence.number_link().empty() ? presence.block_device() : presence.number_link();
  if (presence.ublk) view.ublk = presence.ublk->device;
  if (presence.loop) view.loop = presence.loop->device;
  if (mapping.state == State::ready) view.frontend = presence.frontend();
  view.file = frontends_.file_path(mapping.presence);
  view.nbd = frontends_.nbd_uri(mapping.presence);
  if (mapping.device == nullptr) return view;
  if (mapping.state == State::ready)
    view.state = client::device_state_name(mapping.device->state());
  if (mapping.device->last_error()) view.error = mapping.device->last_error().message();
  block::Limits limits = mapping.device->limits();
  view.size = limits.size;
  view.logical_block_size = limits.logical_block_size;
  view.users = mapping.state == State::ready ? frontends_.user_count(mapping.presence) : 0;
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
  return view;
}

SessionView Manager::view_of(const Session& session) const {
  SessionView view;
  view.name = session.name;
  view.state = session.closing ? "closing" : "connecting";
  view.policy = path_policy_name(session.policy);
  view.failover = failover_name(session.failover);
  view.max_reconnect_attempts = session.max_reconnect_attempts;
  const rtrs::client::Session* rtrs = session.client->session();
  if (rtrs == nullptr) return view;
  view.queue_depth = rtrs->limits().queue_depth;
  view.max_io_size = rtrs->limits().max_io_size;
  bool connected = false;
  for (const rtrs::client::PathInfo& path : rtrs->paths()) {
    PathView& p = view.paths.emplace_back();
    p.number = static_cast<std::uint32_t>(view.paths.size());
    p.name = path.name;
    p.destination = path.address.destination.to_string();
    p.port = path.address.destination.port();
    p.state = rtrs::client::path_state_name(path.state);
    p.fabric = path.fabric;
    p.device = to_text(path.device);
    bool up = path.state == rtrs::client::PathState::connected;
    if (!up && path.last_error) p.error = path.last_error.message();
    p.fenced = path.fenced;
    p.slow = path.slow;
    p.latency_us = microseconds(path.latency);
    p.reads = path.reads;
    p.read_bytes = path.read_bytes;
    p.writes = path.writes;
    p.write_bytes = path.write_bytes;
    p.inflight = path.inflight;
    p.reconnects = path.reconnects;
    p.reconnect_failures = path.reconnect_failures;
    connected = connected || up;
  }
  if (connected)
    view.state = "connected";
  else if (view.queue_depth != 0 && !session.closing)
    view.state = "disconnected";
  return view;
}

AdminResponse Manager::list() const {
  AdminResponse response;
  response.daemon = {.program = "rnbd-client",
                     .version = RNBD_VERSION,
                     .pid = getpid(),
                     .listen = {},
                     .search_path = "",
                     .exports = {}};
  for (const auto& mapping : mappings_) response.devices.push_back(view_of(*mapping));
  std::sort(response.devices.begin(), response.devices.end(),
            [](const DeviceView& a, const DeviceView& b) {
              return a.name.size() != b.name.size() ? a.name.size() < b.name.size()
                                                    : a.name < b.name;
            });
  for (const auto& [name, session] : sessions_) response.sessions.push_back(view_of(*session));
  return response;
}

}  // namespace rnbd::daemon
