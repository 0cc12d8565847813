#pragma once
// The loop driver's ioctls. All of them may block on the file they are about: never on a reactor.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace rnbd::fuse {

struct LoopTarget {
  std::string device_directory;
  std::string file;
  std::uint32_t block_size = 512;
  bool read_only = false;
};

// Binds a free loop device to the file, with direct I/O and a partition scan; its number.
Result<unsigned> loop_attach(const LoopTarget& target);
// EBUSY while something is mounted on it or holds it, unless forced.
std::error_code loop_clear(const std::string& device, bool force);
std::error_code loop_resize(const std::string& device);
// The file a loop device is bound to; nothing when it is free.
std::optional<std::string> loop_backing_file(unsigned number);
std::vector<unsigned> loop_numbers();

}  // namespace rnbd::fuse
