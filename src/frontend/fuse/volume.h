#pragma once
// One file of the mount: a device, its queue on the mount's reactor, who has it open, what is under
// way.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "frontend/fuse/range_lock.h"

namespace rnbd::fuse {

struct Volume {
  std::uint64_t inode = 0;
  std::string name;
  bool read_only = false;
  block::Device* device = nullptr;
  std::unique_ptr<block::Queue> queue;
  block::Limits limits;      // refreshed whenever somebody looks at the file: its size may change
  std::uint32_t opened = 0;  // open descriptions
  std::uint32_t under_way = 0;  // requests at the device or waiting for the lock
  RangeLock lock;
  bool removed = false;  // no longer in the directory; EIO for those who have it open
  std::vector<std::function<void(std::error_code)>> removing;
};

}  // namespace rnbd::fuse
