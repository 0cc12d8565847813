// What is mapped again after a reboot, or when the daemon was stopped and is started again.

#include <algorithm>

#include "base/log.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

constexpr unsigned kDoublingsMax = 16;

}  // namespace

void Manager::restore() {
  std::vector<Mapping*> all;
  for (const PersistentMap& map : maps_.maps()) {
    if (find(map.request.session, map.request.device_path) != nullptr) continue;  // taken over
    auto mapping = std::make_unique<Mapping>(*this, reactors_.home());
    const bool taken =
        !map.number || std::any_of(mappings_.begin(), mappings_.end(),
                                   [&](const auto& other) { return other->number == *map.number; });
    mapping->number = taken ? lowest_free_number() : *map.number;
    while (mapping->ublk_tag == 0) mapping->ublk_tag = random_.next();
    mapping->request = map.request;
    mapping->hold = map.hold;
    mapping->policy = map.policy;
    mapping->max_reconnect_attempts = map.max_reconnect_attempts;
    mapping->recovering = true;
    all.push_back(mapping.get());
    mappings_.push_back(std::move(mapping));
  }
  if (all.empty()) return;
  save();
  for (Mapping* mapping : all) start(*mapping);
}

void Manager::close_unused(std::function<void(bool in_use)> done) {
  struct Progress {
    std::size_t left = 1;
    bool in_use = false;
  };
  auto progress = std::make_shared<Progress>();  // shared by the answers to come
  auto one_done = [progress, done = std::move(done)] {
    if (--progress->left == 0) done(progress->in_use);
  };
  std::vector<Mapping*> all;
  for (const auto& mapping : mappings_)
    if (mapping->state == State::ready) all.push_back(mapping.get());
  for (Mapping* mapping : all) {
    if (frontends_.user_count(mapping->presence) != 0) {
      progress->in_use = true;
      continue;
    }
    ++progress->left;
    mapping->state = State::leaving;
    if (mapping->device->state() != client::DeviceState::open)
      mapping->session->client->fail_device(*mapping->device);
    frontends_.detach(mapping->presence, false,
                      [this, mapping, progress, one_done](const std::vector<std::string>& users) {
                        if (!users.empty()) {
                          mapping->state = State::ready;
                          progress->in_use = true;
                          return one_done();
                        }
                        mapping->device->set_watcher(nullptr);
                        close_device(*mapping, [this, mapping, one_done] {
                          remove(*mapping);
                          one_done();
                        });
                      });
  }
  one_done();
}

// As it is now, all paths of its session included: the session may have to be opened by it.
void Manager::remember(const Mapping& mapping) {
  if (mapping.once || mapping.session == nullptr || mapping.abandoned) return;
  const Session& session = *mapping.session;
  PersistentMap map{.request = mapping.request, .number = mapping.number, .hold = mapping.hold};
  map.request.paths = paths_of(session);
  if (session.policy_set) map.policy = session.policy;
  if (session.attempts_set) map.max_reconnect_attempts = session.max_reconnect_attempts;
  maps_.remember(std::move(map));
}

void Manager::remember(const Session& session) {
  for (const auto& mapping : mappings_)
    if (mapping->session == &session && mapping->state == State::ready) remember(*mapping);
}

// By the names they were given by, where they were.
std::vector<PathSpec> Manager::paths_of(const Session& session) const {
  std::vector<PathSpec> specs;
  const auto* rtrs = session.client->session();
  if (rtrs == nullptr) return specs;
  for (const rtrs::client::PathInfo& path : rtrs->paths()) {
    const auto named =
        std::find_if(session.names.begin(), session.names.end(),
                     [&](const NamedPath& name) { return same_path(name.now, path.address); });
    if (named != session.names.end()) {
      specs.push_back(named->asked);
    } else if (auto spec =
                   parse_path_spec(path.address.to_spec(), path.address.destination.port())) {
      specs.push_back(std::move(*spec));
    }
  }
  return specs;
}

void Manager::forget(const Mapping& mapping) {
  maps_.forget(mapping.request.session, mapping.request.device_path);
}

// A device that waits for us is tried for often; what nobody uses yet, ever less often.
Duration Manager::retry_delay(Mapping& mapping) const {
  using namespace std::chrono_literals;
  constexpr Duration kDeviceWaits = 2s;
  const unsigned doublings = std::min(mapping.retries++, kDoublingsMax);
  if (mapping.ublk_id) return kDeviceWaits;
  return std::min(config_.reconnect_delay * (1U << doublings),
                  std::max(config_.reconnect_delay, config_.reconnect_delay_max));
}

}  // namespace rnbd::daemon
