// Opening and closing: the part of Exports that changes who has what. Home loop throughout.

#include <algorithm>
#include <cerrno>
#include <limits>

#include "base/event.h"
#include "base/mutation.h"
#include "rnbd/server/exports_impl.h"

namespace rnbd::server {
void ExportsImpl::open(std::uint64_t session_id, const std::string& name, AccessMode mode,
                       const Asker& asker) {
  Session* session = find_session(session_id);
  if (session == nullptr || session->closing) return answer(asker, from_errno(ENOTCONN));
  if (Mapping* mapping =
          find_name(*session, name)) {  // the mode asked for is ignored, as the kernel does
    if (mapping->state == MappingState::open) return look_and_answer(*mapping, asker);
    return mapping->opening.push_back(asker);
  }
  if (session->mappings.size() >= options_.max_devices_per_session ||
      session->next_device_id > std::numeric_limits<std::uint32_t>::max()) {
    return answer(asker, from_errno(EMFILE));
  }
  // The name is taken now, so that a second OPEN of it finds this one.
  auto mapping = std::make_unique<Mapping>();
  mapping->session = session;
  mapping->device_id = static_cast<std::uint32_t>(session->next_device_id++);
  mapping->name = name;
  mapping->mode = mode;
  mapping->opening.push_back(asker);
  const std::uint32_t device_id = mapping->device_id;
  session->mappings[device_id] = std::move(mapping);
  opener_.open(session->rtrs->name(), name, mode, home(),
               [this, session_id, device_id](Result<OpenedDevice> result) {
                 opened(session_id, device_id, std::move(result));
               });
}

void ExportsImpl::opened(std::uint64_t session_id, std::uint32_t device_id,
                         Result<OpenedDevice> result) {
  Mapping* mapping = find_mapping(session_id, device_id);
  RNBD_ASSERT(mapping != nullptr && mapping->state == MappingState::opening);
  if (!result) return refuse(*mapping, result.error());
  if (const std::error_code error = admit(*mapping, *result)) {
    // Only when the device is closed again may the client hear of it: it may try once more at once.
    return opener_.close(std::move(result->device), home(),
                         [this, mapping, error] { refuse(*mapping, error); });
  }
  adopt(*mapping, std::move(*result));
  attach(*mapping);
}

// Our own clients find out by themselves, see cache_identity().
bool ExportsImpl::may_have_lost_writes(const Mapping& mapping, const OpenedDevice& opened) const {
  const rtrs::server::Session& session = *mapping.session->rtrs;
  return session.survivor() && !session.own_client() && mapping.mode != AccessMode::ro &&
         opened.device->limits().volatile_cache && options_.refuse_survivors && !broken(Rule::r9);
}

// May this mapping have this device? Takes the grant when it may.
std::error_code ExportsImpl::admit(Mapping& mapping, const OpenedDevice& opened) {
  if (auto geometry = describe(opened.device->limits(), 0, geometry_); !geometry)
    return geometry.error();
  if (may_have_lost_writes(mapping, opened)) {
    log_event({.name = "open_refused",
               .level = LogLevel::error,
               .volume = mapping.name,
               .session = mapping.session->rtrs->name(),
               .of_peer = true},
              "{} refused: this client's session is from before this host was rebooted, and writes "
              "it had no flush for may be lost. Unmap and map the volume at the client, or set "
              "after_reboot = \"allow\"",
              wire::access_mode_name(mapping.mode));
    return from_errno(ENXIO);
  }
  for (const auto& [id, other] : mapping.session->mappings) {
    const bool live =
        other.get() != &mapping && other->granted && other->state != MappingState::closing;
    if (live && other->volume->identity == opened.identity)
      return from_errno(EEXIST);  // under another spelling
  }
  if (const std::error_code error = access_.acquire(opened.identity, mapping.mode)) {
    log_event({.name = "open_refused",
               .volume = mapping.name,
               .session = mapping.session->rtrs->name(),
               .error = error,
               .of_peer = true},
              "{} refused, the device is open for writing elsewhere",
              wire::access_mode_name(mapping.mode));
    return error;
  }
  mapping.granted = true;
  return {};
}

// Gives the mapping its volume: the one that is open already, or a new one.
void ExportsImpl::adopt(Mapping& mapping, OpenedDevice opened) {
  const bool read_only = mapping.mode == AccessMode::ro;
  Volume* volume = find_volume(opened.identity, read_only);
  if (volume == nullptr) {
    volumes_.push_back(
        std::make_unique<Volume>(std::move(opened), mapping.name, read_only, loops_.size()));
    volume = volumes_.back().get();
    if (!look_timer_.armed()) look_timer_.arm_after(options_.look_interval);
    volume->flush_failed = flush_failed_.contains(volume->identity);
  } else {
    opener_.close(std::move(opened.device), home(), [] {});
    looked(*volume, volume->device->limits().size);  // opening it may have shown another
  }
  ++volume->mappings;
  mapping.volume = volume;
}

void ExportsImpl::attach(Mapping& mapping) {
  struct Round {
    std::size_t left;
    std::error_code error;
  };
  auto round =
      std::make_shared<Round>(Round{loops_.size(), {}});  // shared by the calls on their way
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    auto part = std::make_unique<LoopMapping>();
    part->session_id = mapping.session->id;
    part->device_id = mapping.device_id;
    part->mode = mapping.mode;
    part->volume = mapping.volume;
    mapping.parts.push_back(std::move(part));
    loops_[i]->post([this, i, round, &mapping, &part = *mapping.parts.back()] {
      const std::error_code error = handlers_[i]->attach(part);
      home().post([this, round, &mapping, error] {
        if (error) round->error = error;
        if (--round->left == 0) attached(mapping, round->error);
      });
    });
  }
}

void ExportsImpl::attached(Mapping& mapping, std::error_code error) {
  auto askers = std::move(mapping.opening);
  mapping.opening.clear();
  mapping.state = MappingState::open;
  if (error) {
    return close(mapping, [this, askers, error] {
      for (const Asker& asker : askers) answer(asker, error);
    });
  }
  log_event({.name = "volume_opened",
             .volume = mapping.name,
             .session = mapping.session->rtrs->name(),
             .of_peer = true},
            "opened {} as device {}", wire::access_mode_name(mapping.mode), mapping.device_id);
  for (const Asker& asker : askers) answer_open(asker, mapping);
  if (mapping.session->closing) close(mapping, nullptr);
}

void ExportsImpl::refuse(Mapping& mapping, std::error_code error) {
  for (const Asker& asker : mapping.opening) answer(asker, error);
  forget(mapping);
}

// ---- closing ----

void ExportsImpl::close(Mapping& mapping, std::function<void()> done) {
  if (done) mapping.closed.push_back(std::move(done));
  if (mapping.state == MappingState::closing) return;
  mapping.state = MappingState::closing;
  detach(mapping);
}

void ExportsImpl::detach(Mapping& mapping) {
  auto left = std::make_shared<std::size_t>(loops_.size());  // shared by the calls on their way
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    loops_[i]->post([this, i, left, &mapping, &part = *mapping.parts[i]] {
      handlers_[i]->detach(part, [this, left, &mapping] {
        home().post([this, left, &mapping] {
          if (--*left == 0) give_back(mapping);
        });
      });
    });
  }
}

// Nothing runs on the mapping any more. The grant is given up last: who opens next finds the device
// closed.
void ExportsImpl::give_back(Mapping& mapping) {
  Volume& volume = *mapping.volume;
  if (volume.flush_failed) flush_failed_[volume.identity] = {volume.name, volume.place};
  const auto finish = [this, &mapping, identity = volume.identity] {
    access_.release(identity, mapping.mode);
    log_event({.name = "volume_closed",
               .volume = mapping.name,
               .session = mapping.session->rtrs->name(),
               .of_peer = true},
              "closed device {}", mapping.device_id);
    forget(mapping);
  };
  if (--volume.mappings > 0) return finish();
  auto device = std::move(volume.device);
  std::erase_if(volumes_, [&](const auto& owned) { return owned.get() == &volume; });
  mapping.volume = nullptr;
  opener_.close(std::move(device), home(), finish);
}

void ExportsImpl::forget(Mapping& mapping) {
  Session& session = *mapping.session;
  const auto closed = std::move(mapping.closed);
  session.mappings.erase(mapping.device_id);
  for (const auto& call : closed) call();
  maybe_release(session);
}

void ExportsImpl::maybe_release(Session& session) {
  if (!session.closing || !session.mappings.empty()) return;
  rtrs::server::Session* rtrs = session.rtrs;
  sessions_.erase(session.id);
  loops_[rtrs->home()]->post([rtrs] { rtrs->release(); });
}

}  // namespace rnbd::server
