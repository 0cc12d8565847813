#pragma once
// A device that does no work, to measure everything else: writes vanish, reads succeed at once.
// Limits as a good disk would have them. Any number of loops.

#include <string>

#include "block/device.h"

namespace rnbd::backend {

struct NullOptions {
  std::string name = "null";
  std::uint64_t size = std::uint64_t{1} << 40;
  std::uint32_t logical_block_size = 512;
  // Reads return zeros. Without it they leave the buffer as it is, which a benchmark wants and
  // nobody else: an RNBD client then gets back what it last had in the server's chunk.
  bool fill = false;
  bool read_only = false;
};

class NullDevice final : public block::Device {
 public:
  // EINVAL unless the block size is a power of two from 512 to 65536 and divides the size, which is
  // not 0.
  static Result<std::unique_ptr<NullDevice>> create(NullOptions options);

  const std::string& name() const override { return options_.name; }
  block::Limits limits() const override { return limits_; }
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override;

 private:
  explicit NullDevice(NullOptions options);
  NullOptions options_;
  block::Limits limits_;
};

}  // namespace rnbd::backend
