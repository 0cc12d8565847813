#pragma once
// An open RDMA device. librdmacm opens each device once per process, for all its identifiers: so
// what is known of it and its asynchronous events belong to all threads, and are kept here.

#include <infiniband/verbs.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/loop.h"

namespace rnbd::fabric::verbs {

struct AsyncEvent {
  ibv_event_type type{};
  std::uint32_t queue_pair = 0;              // number, of events of queue pairs
  const ibv_cq* completion_queue = nullptr;  // only to be compared
  unsigned port = 0;                         // of events of ports
};

class AsyncListener {
 public:
  virtual ~AsyncListener() = default;
  // Any thread.
  virtual void post_async_event(const AsyncEvent& event) = 0;
};

// Shared by the domains and the loops that use the device; gone with the last of them.
class Device {
 public:
  // The device behind `context`, which librdmacm opened.
  static Result<std::shared_ptr<Device>> of(ibv_context* context);
  Device(ibv_context* context, const ibv_device_attr& attributes);
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  ibv_context* context() const { return context_; }
  const ibv_device_attr& attributes() const { return attributes_; }
  std::string name() const { return ibv_get_device_name(context_->device); }
  // rdma_rxe: its memory windows are for tests (see Options::windows_of_software).
  bool is_software() const { return attributes_.vendor_id == kVendorSoftware; }
  bool has_type2_windows() const {
    return (attributes_.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) != 0;
  }
  bool has_type1_windows() const {
    return (attributes_.device_cap_flags & IBV_DEVICE_MEM_WINDOW) != 0;
  }
  bool can_send_invalidate() const {
    return (attributes_.device_cap_flags & IBV_DEVICE_MEM_MGT_EXTENSIONS) != 0;
  }

  void subscribe(AsyncListener& listener);
  void unsubscribe(AsyncListener& listener);
  // Any thread: reads what has happened and tells all subscribers.
  void read_async_events();

 private:
  static constexpr std::uint32_t kVendorSoftware = 0xffffff;  // RXE_VENDOR_ID
  ibv_context* context_;
  ibv_device_attr attributes_;
  std::mutex mutex_;  // control path only
  std::vector<AsyncListener*> listeners_;
};

// One port of a device, for people.
struct DevicePort {
  std::string device;
  unsigned port = 0;
  std::string state;       // "active", "down", ...
  std::string link_layer;  // "Ethernet", "InfiniBand"
  std::string transport;   // "RDMA", "iWARP"
  std::vector<std::string> gids;
  bool type2_windows = false;
  int queue_depth_max = 0;  // work requests
};
// All that this machine has; empty without any.
std::vector<DevicePort> list_devices();

}  // namespace rnbd::fabric::verbs
