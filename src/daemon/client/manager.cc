// Unmapping, and what is told.

#include "daemon/client/manager.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {

Manager::Manager(Reactors& reactors, const ClientConfig& config, Frontends& frontends,
                 StateFile file)
    : reactors_(reactors),
      config_(config),
      frontends_(frontends),
      file_(std::move(file)),
      resolver_(std::make_unique<Worker>()) {}

Manager::~Manager() = default;

AdminResponse Manager::failure(Problem problem) {
  AdminResponse response;
  response.error = std::move(problem);
  return response;
}

void Manager::unmap(const std::string& target, const std::string& session, bool force,
                    const ManagerReply& reply) {
  auto found = find_target(target, session);
  if (!found) return reply(failure(found.error()));
  Mapping& mapping = **found;
  std::string who = fmt::format("cannot unmap '{}': ", printable(target));
  if (mapping.state == State::leaving) {
    if (force && mapping.device != nullptr) mapping.session->client->fail_device(*mapping.device);
    return reply(failure({ProblemCode::busy, who + "it is being unmapped already", "", EALREADY}));
  }
  if (mapping.state != State::ready && mapping.recovering && force)
    return abandon_recovery(mapping, reply);
  if (mapping.state != State::ready)
    return reply(failure({ProblemCode::busy, who + "it is still being mapped", "", EBUSY}));
  if (!force && mapping.device->counters().held != 0)
    return reply(failure({ProblemCode::busy, who + "requests wait for the server to come back",
                          "wait for it, or give them up with --force", EBUSY}));
  leave(mapping, force, reply);
}

void Manager::leave(Mapping& mapping, bool force, const ManagerReply& reply) {
  mapping.state = State::leaving;
  mapping.force = force;
  mapping.timeout.disarm();
  DeviceView view = view_of(mapping);
  log_info("<{}@{}> unmapping rnbd{}{}", printable(mapping.request.device_path),
           printable(mapping.request.session), mapping.number, force ? ", by force" : "");
  // What waits for the server would keep the frontends waiting.
  if (force && mapping.device != nullptr) mapping.session->client->fail_device(*mapping.device);
  auto gone = [this, &mapping, view, reply](const std::vector<std::string>& users) {
    if (!users.empty()) {
      mapping.state = State::ready;
      if (on_empty_) {  // the daemon began to end meanwhile: by force then, whoever uses it
        if (reply) reply(failure({ProblemCode::busy, "the daemon is ending", "", ESHUTDOWN}));
        return close_one(mapping);
      }
      std::vector<std::string_view> words(users.begin(), users.end());
      return reply(
          failure({ProblemCode::busy,
                   fmt::format("cannot unmap '{}': it is in use: {}", view.name, join(words)),
                   "end that use, or take it away with --force", EBUSY}));
    }
    mapping.device->set_watcher(nullptr);
    close_device(mapping, [this, &mapping, view, reply] {
      log_info("<{}@{}> unmapped", printable(view.volume), printable(view.session));
      remove(mapping);
      AdminResponse response;
      response.devices.push_back(view);
      response.devices.back().state = "unmapped";
      if (reply) reply(std::move(response));
    });
  };
  if (mapping.presence.export_name.empty()) return gone({});
  frontends_.detach(mapping.presence, force, gone);
}

void Manager::close_device(Mapping& mapping, std::function<void()> done) {
  client::RemoteDevice* device = std::exchange(mapping.device, nullptr);
  mapping.session->client->close_device(*device,
                                        [done = std::move(done)](std::error_code) { done(); });
}

// Forgets the mapping; its device is closed, or never was.
void Manager::remove(Mapping& mapping) {
  release_session(mapping);
  std::erase_if(mappings_, [&](const auto& m) { return m.get() == &mapping; });
  save();
  finish_if_empty();
}

void Manager::release_session(Mapping& mapping) {
  Session* session = std::exchange(mapping.session, nullptr);
  if (session == nullptr) return;
  --session->users;
  settle(*session);
}

// Closes a session that nobody wants any more; an open under way that nobody waits for ends with
// it.
void Manager::settle(Session& session) {
  for (const auto& mapping : mappings_) {
    bool of_it = mapping->session == &session;
    bool wanted = mapping->state != State::opening || !mapping->abandoned;
    if (of_it && wanted) return;
  }
  if (std::exchange(session.closing, true)) {
    if (session.closed && session.users == 0) session_closed(session);
    return;
  }
  session.client->close([this, &session] {
    // Not from inside its own call.
    reactors_.home().post([this, &session] {
      session.closed = true;
      if (session.users == 0) session_closed(session);
    });
  });
}

void Manager::session_closed(Session& session) {
  auto waiting = std::move(session.after_close);
  sessions_.erase(std::string(session.name));
  save();
  for (const auto& call : waiting) call();
  finish_if_empty();
}

void Manager::close_all(std::function<void()> done) {
  on_empty_ = std::move(done);
  std::vector<Mapping*> all;
  for (auto& mapping : mappings_) all.push_back(mapping.get());
  for (Mapping* mapping : all) close_one(*mapping);
  finish_if_empty();
}

// In use or not, we end; but what the server can still do, it does.
void Manager::close_one(Mapping& mapping) {
  bool reachable =
      mapping.device != nullptr && mapping.device->state() == client::DeviceState::open;
  if (mapping.device != nullptr && !reachable)
    mapping.session->client->fail_device(*mapping.device);
  switch (mapping.state) {
    case State::ready:
      mapping.state = State::leaving;
      return frontends_.detach(mapping.presence, true,
                               [this, &mapping](const std::vector<std::string>&) {
                                 mapping.device->set_watcher(nullptr);
                                 close_device(mapping, [this, &mapping] { remove(mapping); });
                               });
    case State::resolving:
      mapping.recovering = false;
      return give_up(mapping, {ProblemCode::busy, "the daemon is ending", "", ESHUTDOWN});
    case State::opening:
      mapping.recovering = false;
      mapping.abandoned = true;
      return settle(*mapping.session);
    case State::appearing:
      mapping.recovering = false;
      mapping.abandoned = true;
      return;
    case State::leaving:
      return;
  }
}

void Manager::fail_all() {
  for (auto& mapping : mappings_)
    if (mapping->device != nullptr) mapping->session->client->fail_device(*mapping->device);
}

void Manager::finish_if_empty() {
  if (!on_empty_ || !mappings_.empty() || !sessions_.empty()) return;
  reactors_.home().post(std::exchange(on_empty_, [] {}));
}

Manager::Mapping* Manager::find(const std::string& session, const std::string& device_path) const {
  for (const auto& mapping : mappings_)
    if (mapping->request.session == session && mapping->request.device_path == device_path)
      return mapping.get();
  return nullptr;
}

Outcome<Manager::Mapping*> Manager::find_target(const std::string& target,
                                                const std::string& session) const {
  Mapping* by_volume = nullptr;
  unsigned volumes = 0;
  for (const auto& mapping : mappings_) {
    if (!session.empty() && mapping->request.session != session) continue;
    DeviceView view = view_of(*mapping);
    const std::string node = view.node.empty() ? "/dev/" + view.name : view.node;
    const std::array<std::string, 8> names{view.name,
                                           node,
                                           view.ublk,
                                           view.loop,
                                           view.file,
                                           view.nbd,
                                           mapping->presence.name_link(),
                                           view.volume + "@" + view.session};
    bool named = session.empty() && !target.empty() &&
                 std::find(names.begin(), names.end(), target) != names.end();
    if (named) return mapping.get();
    if (target != view.volume) continue;
    by_volume = mapping.get();
    ++volumes;
  }
  if (volumes == 1) return by_volume;
  if (volumes > 1)
    return problem({ProblemCode::usage,
                    fmt::format("'{}' is mapped in {} sessions", printable(target), volumes),
                    "name the device (rnbd0) or volume@session", EINVAL});
  return problem({ProblemCode::not_found,
                  fmt::format("nothing is mapped as '{}'", printable(target)), "see 'rnbd list'",
                  ENOENT});
}

unsigned Manager::lowest_free_number() const {
  for (unsigned number = 0;; ++number) {
    bool taken = std::any_of(mappings_.begin(), mappings_.end(),
                             [&](const auto& m) { return m->number == number; });
    if (!taken) return number;
  }
}

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
  return view;
}

SessionView Manager::view_of(const Session& session) const {
  SessionView view;
  view.name = session.name;
  view.state = session.closing ? "closing" : "connecting";
  const rtrs::client::Session* rtrs = session.client->session();
  if (rtrs == nullptr) return view;
  view.queue_depth = rtrs->limits().queue_depth;
  view.max_io_size = rtrs->limits().max_io_size;
  bool connected = false;
  for (const rtrs::client::PathInfo& path : rtrs->paths()) {
    PathView& p = view.paths.emplace_back();
    p.name = path.name;
    p.destination = path.address.destination.to_string();
    p.port = path.address.destination.port();
    p.state = rtrs::client::path_state_name(path.state);
    p.fabric = path.fabric;
    p.device = to_text(path.device);
    bool up = path.state == rtrs::client::PathState::connected;
    if (!up && path.last_error) p.error = path.last_error.message();
    p.latency_us = static_cast<std::uint64_t>(path.latency.count() / 1000);
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
