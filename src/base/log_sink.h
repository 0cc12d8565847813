#pragma once
// Where log lines go: to stderr, or to the journal with fields. For log.cc and event.cc.

#include <span>
#include <string_view>

#include "base/journal.h"
#include "base/log.h"

namespace rnbd {

// Writes it whatever the level in force. `fields` are for the journal.
void log_entry(LogLevel level, std::string_view text, std::span<const JournalField> fields = {});

}  // namespace rnbd
