#include "fabric/verbs/listener.h"

#include <cerrno>

#include "base/log.h"
#include "fabric/verbs/incoming.h"

namespace rnbd::fabric::verbs {
namespace {

constexpr Duration kRetryDelay = std::chrono::seconds(5);

}  // namespace

VerbsListener::VerbsListener(Core& core, const Address& address, ListenHandler& handler)
    : core_(core),
      handler_(handler),
      local_(address),
      retry_(Timer::of<&VerbsListener::retry>(core.reactor, this)) {}

VerbsListener::~VerbsListener() {
  if (id_) core_.events.remove(id_);
}

Result<std::unique_ptr<Listener>> VerbsListener::open(Core& core, const Address& address,
                                                      ListenHandler& handler) {
  std::unique_ptr<VerbsListener> listener(new VerbsListener(core, address, handler));
  if (const auto error = listener->start()) return fail(error);
  return listener;
}

std::error_code VerbsListener::start() {
  auto channel = core_.events.channel();
  if (!channel) return channel.error();
  auto id = CmId::create(*channel, local_.family(), false);
  if (!id) return id.error();
  if (const auto error = id->bind(local_, true)) return error;
  if (rdma_listen(id->get(), core_.options.listen_backlog) != 0) return from_errno(errno);
  local_ = local_address_of(id->get());
  core_.events.add(*id, *this);
  id_ = std::move(*id);
  return {};
}

void VerbsListener::on_cm_event(CmEvent& event) {
  if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) {
    // Another device than the one chosen is as good as none: the request is dropped, so refused.
    if (core_.allowed(event.request))
      handler_.on_connect_request(std::make_unique<VerbsIncoming>(event));
    return;
  }
  if (event.type != RDMA_CM_EVENT_DEVICE_REMOVAL && event.type != RDMA_CM_EVENT_ADDR_CHANGE) return;
  log_warning("verbs: the device that listens on {} is gone", local_.to_string_with_port());
  core_.events.remove(id_);
  id_.reset();
  retry_.arm_after(kRetryDelay);
}

void VerbsListener::retry() {
  if (const auto error = start()) {
    retry_.arm_after(kRetryDelay);
    return;
  }
  log_info("verbs: listening on {} again", local_.to_string_with_port());
}

}  // namespace rnbd::fabric::verbs
