#pragma once
// Who uses a block device, in words: "mounted on /mnt" (in any namespace), "held by dm-0", "in use
// as swap", "open by 123 (qemu)". Partitions count. Reads /proc and /sys only; any thread.

#include <string>
#include <vector>

#include "base/loop.h"

namespace rnbd {

// `node`: "loop3", "ublkb0".
std::vector<std::string> device_users(const std::string& node);
// The same, but waits for openers that come and go (udev reading labels); mounts and holders stay.
// Blocks.
std::vector<std::string> wait_for_users(const std::string& node, Duration patience);

}  // namespace rnbd
