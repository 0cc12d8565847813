#pragma once
// rnbd events: what happens, as it happens.

#include "app/cli/console.h"
#include "daemon/admin/views.h"

namespace rnbd::cli {

ExitStatus run_events(const Command& command);

// "2026-11-22T18:00:00Z warning path_lost s1 ip:…: text" Pure.
std::string event_text(const daemon::EventView& event);

}  // namespace rnbd::cli
