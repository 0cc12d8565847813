#pragma once
// What an open file or block device is: its size, blocks, what it can do, and who it is.

#include <cstdint>
#include <string>

#include "base/error.h"

namespace rnbd::backend {

struct FileGeometry {
  bool block_device = false;
  bool in_memory = false;  // tmpfs
  std::uint64_t size = 0;  // as the kernel says, not rounded
  std::uint32_t logical_block_size = 512;
  std::uint32_t physical_block_size = 512;
  std::uint32_t discard_granularity = 0;
  bool can_discard = false;
  bool can_secure_erase = false;
  // What direct I/O demands of memory addresses, and of offsets and lengths. 0: no direct I/O, or
  // unknown.
  std::uint32_t direct_memory_alignment = 0;
  std::uint32_t direct_offset_alignment = 0;
  std::string identity;  // the same for every name of the same storage: "major:minor:inode" or
                         // "major:minor"
};

// ENOTBLK for anything but a regular file or a block device. `writable` permits harmless probing by
// writes of nothing (a hole punched beyond the end).
Result<FileGeometry> examine(int fd, bool writable);

// The size alone, for a device that may have grown.
Result<std::uint64_t> examine_size(int fd);

}  // namespace rnbd::backend
