#include "backend/null/null_device.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "block/completions.h"

namespace rnbd::backend {
namespace {

class NullQueue final : public block::Queue {
 public:
  NullQueue(Loop& loop, const block::Limits& limits, bool fill)
      : limits_(limits), fill_(fill), completions_(loop) {}
  ~NullQueue() override { RNBD_ASSERT(completions_.empty()); }

  void submit(block::Request& request) override {
    const std::error_code error = block::check(request, limits_);
    if (fill_ && !error && request.op == block::Op::read) {
      for (const iovec& segment : request.segments)
        std::memset(segment.iov_base, 0, segment.iov_len);
    }
    completions_.add(request, error);
  }

 private:
  const block::Limits limits_;
  const bool fill_;
  block::Completions completions_;
};

}  // namespace

NullDevice::NullDevice(NullOptions options) : options_(std::move(options)) {
  limits_.size = options_.size;
  limits_.logical_block_size = options_.logical_block_size;
  limits_.physical_block_size = std::max<std::uint32_t>(4096, options_.logical_block_size);
  limits_.read_only = options_.read_only;
  limits_.fua = true;
  if (options_.read_only) return;
  limits_.max_discard = limits_.max_write_zeroes = limits_.max_secure_erase = options_.size;
  limits_.discard_granularity = limits_.physical_block_size;
}

Result<std::unique_ptr<NullDevice>> NullDevice::create(NullOptions options) {
  const std::uint32_t block = options.logical_block_size;
  if (!std::has_single_bit(block) || block < 512 || block > 65536) return fail_errno(EINVAL);
  if (options.size == 0 || options.size % block != 0) return fail_errno(EINVAL);
  return std::unique_ptr<NullDevice>(new NullDevice(std::move(options)));
}

Result<std::unique_ptr<block::Queue>> NullDevice::open_queue(Loop& loop) {
  return std::make_unique<NullQueue>(loop, limits_, options_.fill);
}

}  // namespace rnbd::backend
