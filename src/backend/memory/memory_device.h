#pragma once
// A disk in memory: sparse, zero at first, gone with the process. Any number of loops; requests
// that overlap in time and place are their submitters' to order, as on any disk.

#include <cstddef>
#include <span>
#include <string>

#include "block/device.h"

namespace rnbd::backend {

struct MemoryOptions {
  std::string name = "memory";
  std::uint64_t size = std::uint64_t{64} << 20;
  std::uint32_t logical_block_size = 512;
  bool read_only = false;
};

class MemoryDevice final : public block::Device {
 public:
  // EINVAL for an impossible size or block size, ENOMEM when there is no room in the address space.
  static Result<std::unique_ptr<MemoryDevice>> create(MemoryOptions options);
  ~MemoryDevice() override;

  const std::string& name() const override { return options_.name; }
  block::Limits limits() const override { return limits_; }
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override;

  std::span<std::byte> bytes() { return {memory_, limits_.size}; }  // for tests
  std::uint64_t resident_bytes() const;  // how much of it is really there

 private:
  MemoryDevice(MemoryOptions options, std::byte* memory);
  MemoryOptions options_;
  block::Limits limits_;
  std::byte* memory_;
};

}  // namespace rnbd::backend
