#pragma once
// A place to mount on: made if missing, freed of what a dead daemon left there.

#include <string>

#include "base/error.h"

namespace rnbd::fuse {

// The canonical path of a directory that can be mounted on. EBUSY when something alive is mounted
// there.
Result<std::string> prepare_mountpoint(const std::string& path);
// Takes away a mount whose daemon is gone ("transport endpoint is not connected"); nothing else.
void detach_if_dead(const std::string& path);
bool is_mounted(const std::string& canonical_path);

}  // namespace rnbd::fuse
