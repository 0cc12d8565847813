// Volumes that grow, or shrink, while clients have them open. Home loop throughout.

#include <algorithm>
#include <memory>
#include <utility>

#include "base/event.h"
#include "rnbd/server/exports_impl.h"

namespace rnbd::server {

// As long as anything is open.
void ExportsImpl::on_look_timer() {
  if (volumes_.empty()) return;
  for (const auto& volume : volumes_) {
    if (std::exchange(volume->looking, true)) continue;  // its storage takes its time
    look(*volume, [this, identity = volume->identity, read_only = volume->read_only] {
      if (Volume* found = find_volume(identity, read_only)) found->looking = false;
    });
  }
  look_timer_.arm_after(options_.look_interval);
}

void ExportsImpl::look_at_sizes(std::function<void()> done) {
  home().post([this, done = std::move(done)] {
    auto left = std::make_shared<std::size_t>(1);  // shared by the looks under way
    const auto one_done = [left, done] {
      if (--*left == 0) done();
    };
    for (const auto& volume : volumes_) {
      ++*left;
      look(*volume, one_done);
    }
    one_done();
  });
}

void ExportsImpl::look(Volume& volume, std::function<void()> done) {
  opener_.look(*volume.device, home(),
               [this, alive = std::weak_ptr<int>(alive_), identity = volume.identity,
                read_only = volume.read_only, done = std::move(done)](Result<std::uint64_t> size) {
                 if (alive.expired()) return;
                 // Closed meanwhile, and perhaps opened anew: then it was looked at later than
                 // this.
                 Volume* found = find_volume(identity, read_only);
                 if (found != nullptr && size) looked(*found, found->device->limits().size);
                 done();
               });
}

void ExportsImpl::looked(Volume& volume, std::uint64_t size) {
  const std::uint64_t before = volume.size;
  if (size == before) return;
  volume.size = size;
  if (size > before) {
    log_event({.name = "volume_resized", .volume = volume.name}, "grew from {} to {} bytes", before,
              size);
  } else {
    log_event({.name = "volume_shrank", .level = LogLevel::error, .volume = volume.name},
              "shrank from {} to {} bytes while clients use it: they keep the size they know, what "
              "lay beyond the end is gone, and requests there fail",
              before, size);
  }
  for (std::size_t i = 0; i < loops_.size(); ++i) {
    // The volume is there until every loop was told of its end, which is later.
    loops_[i]->post([this, i, &volume] { handlers_[i]->resized(volume); });
  }
  tell_size(volume);
}

void ExportsImpl::tell_size(const Volume& volume) {
  for (const auto& [id, session] : sessions_) {
    const bool has_it =
        std::any_of(session->mappings.begin(), session->mappings.end(), [&](const auto& entry) {
          return entry.second->volume == &volume && entry.second->state == MappingState::open;
        });
    if (has_it) session->rtrs->notify();
  }
}

// Who opens again what it has open asks for its size: the real one.
void ExportsImpl::look_and_answer(Mapping& mapping, const Asker& asker) {
  look(*mapping.volume, [this, asker, session_id = mapping.session->id, name = mapping.name,
                         mode = mapping.mode, device_id = mapping.device_id] {
    Mapping* now = find_mapping(session_id, device_id);
    if (now == nullptr || now->state != MappingState::open)
      return open(session_id, name, mode, asker);  // closed meanwhile
    answer_open(asker, *now);
  });
}

}  // namespace rnbd::server
