#pragma once
// What the connections and listeners of one fabric share: its reactor, its event channel, its
// poller, and per device a completion channel and the asynchronous events. One thread, that of the
// reactor.

#include <memory>
#include <vector>

#include "base/intrusive_list.h"
#include "base/random.h"
#include "fabric/verbs/cm.h"
#include "fabric/verbs/device.h"
#include "fabric/verbs/options.h"
#include "fabric/verbs/poller.h"

namespace rnbd::fabric::verbs {

class VerbsConnection;
class Core;

// One device as one reactor uses it.
class DeviceLoop final : private AsyncListener {
 public:
  static Result<std::unique_ptr<DeviceLoop>> create(Core& core, std::shared_ptr<Device> device);
  ~DeviceLoop() override;
  CompletionChannel& completions() { return *completions_; }
  Device& device() { return *device_; }

 private:
  // Forgets its target when that goes; shared with calls posted to the loop, which may come later.
  struct Anchor {
    DeviceLoop* target;
  };
  DeviceLoop(Core& core, std::shared_ptr<Device> device);
  void on_async_ready(std::uint32_t) { device_->read_async_events(); }
  void post_async_event(const AsyncEvent& event) override;  // any thread

  Core& core_;
  std::shared_ptr<Device> device_;
  std::shared_ptr<Anchor> anchor_;
  std::unique_ptr<CompletionChannel> completions_;
  Watch watch_ = Watch::of<&DeviceLoop::on_async_ready>(this);
};

class Core {
 public:
  Core(Reactor& on, const Options& with) : reactor(on), options(with) {}

  Result<DeviceLoop*> device_loop(const std::shared_ptr<Device>& device);
  // A device that is gone is let go of when its last connection is closed.
  void add(VerbsConnection& connection);
  void closed(VerbsConnection& connection);
  void on_async_event(Device& device, const AsyncEvent& event);
  void on_device_gone(const Device& device);
  // The queue pairs, receive queues and so on of this identifier's device may be used.
  bool allowed(const CmId& id) const;

  Reactor& reactor;
  const Options options;
  CmEvents events{reactor};
  Poller poller{reactor};
  SystemRandom random;

 private:
  struct Entry {
    std::unique_ptr<DeviceLoop> loop;
    bool gone = false;
  };
  void drop_unused();
  std::vector<Entry> loops_;
  IntrusiveList<VerbsConnection> connections_;
};

}  // namespace rnbd::fabric::verbs
