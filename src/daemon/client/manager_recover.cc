// What a successor must know, and taking over from a predecessor.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/event.h"
#include "base/log.h"
#include "daemon/client/manager_state.h"

namespace rnbd::daemon {
namespace {

using namespace std::chrono_literals;

constexpr Duration kDiscardLimit = 10s;

}  // namespace

SavedState Manager::state_to_save() const {
  SavedState state;
  for (const auto& [name, session] : sessions_)
    if (!session->identity.paths.empty())
      state.sessions.push_back(
          {.name = name,
           .poll_queues = session->poll_queues,
           .policy = session->policy_set ? std::optional(session->policy) : std::nullopt,
           .max_reconnect_attempts = session->attempts_set
                                         ? std::optional(session->max_reconnect_attempts)
                                         : std::nullopt,
           .identity = session->identity,
           .names = session->names});
  for (const auto& [name, session] : inherited_) state.sessions.push_back(session);
  for (const auto& mapping : mappings_) {
    const bool seen = mapping->state == State::appearing || mapping->state == State::ready ||
                      mapping->state == State::leaving;
    if (!seen && !mapping->recovering) continue;
    state.mappings.push_back({.request = mapping->request,
                              .number = mapping->number,
                              .ublk_tag = mapping->ublk_tag,
                              .hold = mapping->hold,
                              .once = mapping->once});
  }
  return state;
}

void Manager::save() {
  const std::error_code error = file_.save(state_to_save());
  if (error && !std::exchange(save_failed_, true))
    log_error(
        "cannot write {}: {}; should this daemon die, its block devices are lost (free some space "
        "there)",
        file_.path(), error.message());
  if (!error) save_failed_ = false;
}

void Manager::recover(SavedState state, const std::vector<ublk::ListedDevice>& devices) {
  for (SavedSession& session : state.sessions) inherited_[session.name] = std::move(session);
  for (SavedMapping& saved : state.mappings) {
    auto mapping = std::make_unique<Mapping>(*this, reactors_.home());
    mapping->request = std::move(saved.request);
    mapping->number = saved.number;
    mapping->ublk_tag = saved.ublk_tag;
    mapping->hold = saved.hold;
    mapping->once = saved.once;
    mapping->recovering = true;
    const auto left = std::find_if(devices.begin(), devices.end(), [&](const auto& device) {
      return device.tag != 0 && device.tag == saved.ublk_tag;
    });
    if (left != devices.end()) mapping->ublk_id = left->id;
    mappings_.push_back(std::move(mapping));
  }
  // A session without volumes has nothing to fence: the server forgets it.
  std::erase_if(inherited_, [&](const auto& inherited) {
    return std::none_of(mappings_.begin(), mappings_.end(), [&](const auto& mapping) {
      return mapping->request.session == inherited.first;
    });
  });
  save();
  std::vector<Mapping*> all;
  for (const auto& mapping : mappings_) all.push_back(mapping.get());
  for (Mapping* mapping : all) {
    log_event({.name = "volume_taken_over",
               .volume = mapping->request.device_path,
               .session = mapping->request.session,
               .device = fmt::format("rnbd{}", mapping->number)},
              "taking over rnbd{}{}", mapping->number,
              mapping->ublk_id ? fmt::format(", /dev/ublkb{}", *mapping->ublk_id) : "");
    start(*mapping);
  }
}

// A volume that was in use is not given up because its server, or the driver, is not ready yet.
bool Manager::recover_later(Mapping& mapping, const Problem& why) {
  if (!mapping.recovering || mapping.abandoned || on_empty_) return false;
  if (why.text() != mapping.trouble)
    log_event({.name = "map_retried",
               .level = LogLevel::warning,
               .volume = mapping.request.device_path,
               .session = mapping.request.session},
              "{}; trying again until it is unmapped{}", why.text(),
              mapping.ublk_id ? " by force" : "");
  mapping.trouble = why.text();
  release_session(mapping);
  mapping.state = State::resolving;
  if (!mapping.asked.empty()) mapping.request.paths = std::exchange(mapping.asked, {});
  mapping.retry.arm_after(retry_delay(mapping));
  save();
  for (const ManagerReply& reply : std::exchange(mapping.waiting, {})) reply(failure(why));
  return true;
}

void Manager::abandon_recovery(Mapping& mapping, const ManagerReply& reply) {
  log_event({.name = "recovery_given_up",
             .level = LogLevel::warning,
             .volume = mapping.request.device_path,
             .session = mapping.request.session,
             .device = fmt::format("rnbd{}", mapping.number)},
            "given up before it was taken over");
  forget(mapping);
  mapping.recovering = false;
  mapping.retry.disarm();
  if (mapping.ublk_id)
    resolver_->post([id = *mapping.ublk_id, tag = mapping.ublk_tag] {
      if (auto error = ublk::discard_device(id, tag, kDiscardLimit))
        log_warning("/dev/ublkb{} stays: {}", id, error.message());
    });
  mapping.abandoned = true;
  AdminResponse response;
  response.devices.push_back(view_of(mapping));
  response.devices.back().state = "unmapped";
  switch (mapping.state) {
    case State::resolving:
      remove(mapping);
      break;
    case State::opening:
      settle(*mapping.session);
      break;
    case State::appearing:
    case State::ready:
    case State::leaving:
      break;  // it leaves as soon as it is there
  }
  reply(std::move(response));
}

}  // namespace rnbd::daemon
