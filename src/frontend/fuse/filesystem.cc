#include "frontend/fuse/filesystem.h"

#include <ctime>
#include <utility>

namespace rnbd::fuse {

Filesystem::Filesystem(Reactor& reactor) : reactor_(reactor) {
  ::clock_gettime(CLOCK_REALTIME, &created_);
}

Filesystem::~Filesystem() { RNBD_ASSERT(volumes_.empty()); }

void Filesystem::set_slots(SlotSource& slots, std::uint32_t inflight_max) {
  slots_ = &slots;
  inflight_max_ = inflight_max;
}

Result<void> Filesystem::add(std::string name, bool read_only, block::Device& device) {
  constexpr std::size_t kNameMax = 255;
  const bool sound = !name.empty() && name.size() <= kNameMax && name != "." && name != ".." &&
                     name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
  if (!sound) return fail_errno(EINVAL);
  if (find(name) != nullptr) return fail_errno(EEXIST);
  auto queue = device.open_queue(reactor_);
  if (!queue) return fail(queue.error());
  auto volume = std::make_unique<Volume>();
  volume->inode = next_inode_++;
  volume->name = std::move(name);
  volume->device = &device;
  volume->queue = std::move(*queue);
  volume->limits = device.limits();
  volume->read_only = read_only || volume->limits.read_only;
  if (volume->limits.logical_block_size > kBlockMax) return fail_errno(EINVAL);
  volumes_.emplace(volume->inode, std::move(volume));
  return {};
}

void Filesystem::remove(const std::string& name, std::function<void(std::error_code)> done) {
  Volume* volume = find(name);
  if (volume == nullptr) {
    reactor_.post([done = std::move(done)] { done(from_errno(ENOENT)); });
    return;
  }
  volume->removed = true;
  volume->removing.push_back(std::move(done));
  settle(*volume);
}

// Ends a removed volume as far as possible: without requests its queue goes, without users all of
// it.
void Filesystem::settle(Volume& volume) {
  if (!volume.removed || volume.under_way > 0) return;
  volume.queue.reset();
  for (auto& done : std::exchange(volume.removing, {})) {
    reactor_.post([done = std::move(done)] { done({}); });
  }
  if (volume.opened == 0) volumes_.erase(volume.inode);
}

void Filesystem::request_done(Volume& volume) { settle(volume); }

void Filesystem::disconnected() {
  std::vector<Volume*> all;
  for (auto& [inode, volume] : volumes_) all.push_back(volume.get());
  for (Volume* volume : all) {
    volume->opened = 0;
    settle(*volume);
  }
}

Volume* Filesystem::find(const std::string& name) const {
  for (const auto& [inode, volume] : volumes_) {
    if (!volume->removed && volume->name == name) return volume.get();
  }
  return nullptr;
}

Volume* Filesystem::find(std::uint64_t inode) const {
  const auto it = volumes_.find(inode);
  return it == volumes_.end() || it->second->removed ? nullptr : it->second.get();
}

std::uint32_t Filesystem::open_count(const std::string& name) const {
  const Volume* volume = find(name);
  return volume == nullptr ? 0 : volume->opened;
}

std::vector<std::string> Filesystem::names() const {
  std::vector<std::string> all;
  for (const auto& [inode, volume] : volumes_) {
    if (!volume->removed) all.push_back(volume->name);
  }
  return all;
}

}  // namespace rnbd::fuse
