#include "fabric/verbs/device.h"

#include <arpa/inet.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "base/log.h"

namespace rnbd::fabric::verbs {
namespace {

struct OpenDevices {
  std::mutex mutex;
  std::map<ibv_context*, std::weak_ptr<Device>> devices;
};
OpenDevices& open_devices() {
  static OpenDevices all;
  return all;
}

bool is_of_queue_pair(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_QP_FATAL:
    case IBV_EVENT_QP_REQ_ERR:
    case IBV_EVENT_QP_ACCESS_ERR:
    case IBV_EVENT_COMM_EST:
    case IBV_EVENT_SQ_DRAINED:
    case IBV_EVENT_PATH_MIG:
    case IBV_EVENT_PATH_MIG_ERR:
    case IBV_EVENT_QP_LAST_WQE_REACHED:
      return true;
    default:
      return false;
  }
}

bool is_of_port(ibv_event_type type) {
  switch (type) {
    case IBV_EVENT_PORT_ACTIVE:
    case IBV_EVENT_PORT_ERR:
    case IBV_EVENT_LID_CHANGE:
    case IBV_EVENT_PKEY_CHANGE:
    case IBV_EVENT_SM_CHANGE:
    case IBV_EVENT_CLIENT_REREGISTER:
    case IBV_EVENT_GID_CHANGE:
      return true;
    default:
      return false;
  }
}

AsyncEvent copy_of(const ibv_async_event& event) {
  AsyncEvent copy{.type = event.event_type};
  if (is_of_queue_pair(event.event_type)) copy.queue_pair = event.element.qp->qp_num;
  if (event.event_type == IBV_EVENT_CQ_ERR) copy.completion_queue = event.element.cq;
  if (is_of_port(event.event_type)) copy.port = static_cast<unsigned>(event.element.port_num);
  return copy;
}

const char* state_name(ibv_port_state state) {
  switch (state) {
    case IBV_PORT_DOWN:
      return "down";
    case IBV_PORT_INIT:
      return "initializing";
    case IBV_PORT_ARMED:
      return "armed";
    case IBV_PORT_ACTIVE:
      return "active";
    case IBV_PORT_ACTIVE_DEFER:
      return "deferred";
    default:
      return "unknown";
  }
}

DevicePort describe(ibv_context* context, const ibv_device_attr& attributes, std::uint8_t number,
                    const ibv_port_attr& port) {
  DevicePort result;
  result.device = ibv_get_device_name(context->device);
  result.port = number;
  result.state = state_name(port.state);
  result.link_layer = port.link_layer == IBV_LINK_LAYER_ETHERNET ? "Ethernet" : "InfiniBand";
  result.transport = context->device->transport_type == IBV_TRANSPORT_IWARP ? "iWARP" : "RDMA";
  result.type2_windows = (attributes.device_cap_flags & IBV_DEVICE_MEM_WINDOW_TYPE_2B) != 0;
  result.queue_depth_max = attributes.max_qp_wr;
  for (int i = 0; i < port.gid_tbl_len; ++i) {
    ibv_gid gid{};
    const bool empty =
        ibv_query_gid(context, number, i, &gid) != 0 ||
        std::all_of(std::begin(gid.raw), std::end(gid.raw), [](auto b) { return b == 0; });
    char text[INET6_ADDRSTRLEN];
    if (!empty && ::inet_ntop(AF_INET6, gid.raw, text, sizeof text) != nullptr &&
        std::find(result.gids.begin(), result.gids.end(), text) == result.gids.end()) {
      result.gids.emplace_back(text);
    }
  }
  return result;
}

void describe_ports(ibv_device* device, std::vector<DevicePort>& out) {
  ibv_context* context = ibv_open_device(device);
  if (context == nullptr) return;
  ibv_device_attr attributes{};
  if (ibv_query_device(context, &attributes) == 0) {
    for (std::uint8_t number = 1; number <= attributes.phys_port_cnt; ++number) {
      ibv_port_attr port{};
      if (ibv_query_port(context, number, &port) == 0)
        out.push_back(describe(context, attributes, number, port));
    }
  }
  ibv_close_device(context);
}

}  // namespace

Result<std::shared_ptr<Device>> Device::of(ibv_context* context) {
  OpenDevices& all = open_devices();
  const std::scoped_lock lock(all.mutex);
  auto& entry = all.devices[context];
  if (auto known = entry.lock()) return known;
  ibv_device_attr attributes{};
  if (const int error = ibv_query_device(context, &attributes)) return fail_errno(error);
  const int flags = ::fcntl(context->async_fd, F_GETFL);
  if (flags < 0 || ::fcntl(context->async_fd, F_SETFL, flags | O_NONBLOCK) != 0)
    return fail_errno(errno);
  auto device = std::make_shared<Device>(context, attributes);
  entry = device;
  return device;
}

Device::Device(ibv_context* context, const ibv_device_attr& attributes)
    : context_(context), attributes_(attributes) {}

void Device::subscribe(AsyncListener& listener) {
  const std::scoped_lock lock(mutex_);
  listeners_.push_back(&listener);
}

void Device::unsubscribe(AsyncListener& listener) {
  const std::scoped_lock lock(mutex_);
  std::erase(listeners_, &listener);
}

void Device::read_async_events() {
  ibv_async_event event{};
  while (ibv_get_async_event(context_, &event) == 0) {
    const AsyncEvent copy = copy_of(event);
    ibv_ack_async_event(&event);
    if (copy.type != IBV_EVENT_COMM_EST) log_info("{}: {}", name(), ibv_event_type_str(copy.type));
    const std::scoped_lock lock(mutex_);
    for (AsyncListener* listener : listeners_) listener->post_async_event(copy);
  }
}

std::vector<DevicePort> list_devices() {
  std::vector<DevicePort> result;
  int count = 0;
  ibv_device** list = ibv_get_device_list(&count);
  if (list == nullptr) return result;
  for (int i = 0; i < count; ++i) describe_ports(list[i], result);
  ibv_free_device_list(list);
  return result;
}

}  // namespace rnbd::fabric::verbs
