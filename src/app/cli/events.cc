#include "app/cli/events.h"
namespace rnbd::cli {
ExitStatus run_events(const Command&) { return 0; }
}  // namespace rnbd::cli
