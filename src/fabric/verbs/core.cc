#include "fabric/verbs/core.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "base/log.h"
#include "fabric/verbs/connection.h"

namespace rnbd::fabric::verbs {

Result<std::unique_ptr<DeviceLoop>> DeviceLoop::create(Core& core, std::shared_ptr<Device> device) {
  auto completions = CompletionChannel::create(core.reactor, device->context());
  if (!completions) return fail(completions.error());
  std::unique_ptr<DeviceLoop> loop(new DeviceLoop(core, std::move(device)));
  loop->completions_ = std::move(*completions);
  return loop;
}

DeviceLoop::DeviceLoop(Core& core, std::shared_ptr<Device> device)
    : core_(core), device_(std::move(device)), anchor_(std::make_shared<Anchor>(Anchor{this})) {
  device_->subscribe(*this);
  watch_.start(core.reactor, device_->context()->async_fd, POLLIN);
}

DeviceLoop::~DeviceLoop() {
  watch_.stop();
  device_->unsubscribe(*this);
  anchor_->target = nullptr;
}

void DeviceLoop::post_async_event(const AsyncEvent& event) {
  core_.reactor.post([anchor = anchor_, event] {
    if (anchor->target != nullptr)
      anchor->target->core_.on_async_event(*anchor->target->device_, event);
  });
}

Result<DeviceLoop*> Core::device_loop(const std::shared_ptr<Device>& device) {
  for (const Entry& entry : loops_) {
    if (&entry.loop->device() == device.get()) return entry.loop.get();
  }
  auto made = DeviceLoop::create(*this, device);
  if (!made) return fail(made.error());
  loops_.push_back({std::move(*made)});
  return loops_.back().loop.get();
}

void Core::add(VerbsConnection& connection) { connections_.push_back(connection); }

void Core::closed(VerbsConnection& connection) {
  static_cast<ListNode&>(connection).unlink();
  drop_unused();
}

void Core::drop_unused() {
  std::erase_if(loops_, [this](const Entry& entry) {
    if (!entry.gone) return false;
    bool used = false;
    connections_.for_each([&](VerbsConnection& connection) {
      used |= &connection.rdma_device() == &entry.loop->device();
    });
    return !used;
  });
}

void Core::on_device_gone(const Device& device) {
  for (Entry& entry : loops_) entry.gone |= &entry.loop->device() == &device;
}

bool Core::allowed(const CmId& id) const {
  if (id->verbs == nullptr) return false;
  if (!options.device.empty() && options.device != ibv_get_device_name(id->verbs->device))
    return false;
  return options.port == 0 || options.port == id->port_num;
}

void Core::on_async_event(Device& device, const AsyncEvent& event) {
  const bool gone = event.type == IBV_EVENT_DEVICE_FATAL;
  if (gone) on_device_gone(device);
  connections_.for_each([&](VerbsConnection& connection) {
    if (&connection.rdma_device() == &device) connection.on_async_event(event);
  });
}

}  // namespace rnbd::fabric::verbs
