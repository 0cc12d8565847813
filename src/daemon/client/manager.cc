// Unmapping, and finding what is meant.

#include "daemon/client/manager.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/event.h"
#include "base/log.h"
#include "daemon/admin/suggest.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {

Manager::Manager(Reactors& reactors, const ClientConfig& config, Frontends& frontends,
                 StateFile file, PersistentMaps maps)
    : reactors_(reactors),
      config_(config),
      frontends_(frontends),
      file_(std::move(file)),
      maps_(std::move(maps)),
      resolver_(std::make_unique<Worker>()),
      names_timer_(Timer::of<&Manager::look_for_moved_hosts>(reactors.home(), this)) {}

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
  // What no predecessor left a device of is in nobody's use.
  if (mapping.state != State::ready && mapping.recovering && (force || !mapping.ublk_id))
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
  if (force) mapping.timeout.arm_after(config_.connect_timeout);
  DeviceView view = view_of(mapping);
  log_event({.name = "volume_unmapping",
             .volume = mapping.request.device_path,
             .session = mapping.request.session,
             .device = fmt::format("rnbd{}", mapping.number)},
            "unmapping rnbd{}{}", mapping.number, force ? ", by force" : "");
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
      log_event({.name = "volume_unmapped",
                 .volume = view.volume,
                 .session = view.session,
                 .device = view.name},
                "unmapped");
      forget(mapping);
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

// By force, and yet requests lie on the server unanswered over paths that live (a disk hangs
// there): their memory is ours again only when their connections are gone. Other volumes of the
// session wait meanwhile.
void Manager::let_go(Mapping& mapping) {
  if (mapping.device == nullptr) return;  // they are done
  log_event({.name = "requests_stuck",
             .level = LogLevel::warning,
             .volume = mapping.request.device_path,
             .session = mapping.request.session,
             .device = fmt::format("rnbd{}", mapping.number)},
            "requests are not answered: connecting the session's paths anew");
  rtrs::client::Session* session = mapping.session->client->session();
  const std::size_t count = session != nullptr ? session->paths().size() : 0;
  for (std::size_t i = 0; i < count; ++i) session->reconnect_path(i, [](std::error_code) {});
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

}  // namespace rnbd::daemon
