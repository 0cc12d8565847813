#pragma once
// Events as they are told over the admin socket.

#include "base/event.h"
#include "daemon/admin/views.h"

namespace rnbd::daemon {

EventView event_view(const Event& event);

}  // namespace rnbd::daemon
