#include "backend/memory/memory_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "block/completions.h"

namespace rnbd::backend {
namespace {

std::uint64_t page_size() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }

// Zeroes a range, giving whole pages back to the system.
void erase(std::byte* begin, std::uint64_t length) {
  const std::uint64_t page = page_size();
  const auto address = reinterpret_cast<std::uintptr_t>(begin);
  const std::uint64_t head = std::min(length, (page - address % page) % page);
  const std::uint64_t middle = (length - head) / page * page;
  const std::uint64_t tail = length - head - middle;
  std::memset(begin, 0, head);
  if (middle > 0 && ::madvise(begin + head, middle, MADV_DONTNEED) != 0)
    std::memset(begin + head, 0, middle);
  std::memset(begin + head + middle, 0, tail);
}

class MemoryQueue final : public block::Queue {
 public:
  MemoryQueue(Loop& loop, const block::Limits& limits, std::byte* memory)
      : limits_(limits), memory_(memory), completions_(loop) {}
  ~MemoryQueue() override { RNBD_ASSERT(completions_.empty()); }

  void submit(block::Request& request) override {
    const std::error_code error = block::check(request, limits_);
    if (!error) execute(request);
    completions_.add(request, error);
  }

 private:
  void execute(const block::Request& request) {
    std::byte* at = memory_ + request.offset;
    switch (request.op) {
      case block::Op::read:
        for (const iovec& segment : request.segments) {
          if (segment.iov_len > 0) std::memcpy(segment.iov_base, at, segment.iov_len);
          at += segment.iov_len;
        }
        break;
      case block::Op::write:
        for (const iovec& segment : request.segments) {
          if (segment.iov_len > 0) std::memcpy(at, segment.iov_base, segment.iov_len);
          at += segment.iov_len;
        }
        break;
      case block::Op::write_zeroes:
        if ((request.flags & block::kNoUnmap) != 0) {
          std::memset(at, 0, request.length);
          break;
        }
        [[fallthrough]];
      case block::Op::discard:
      case block::Op::secure_erase:
        erase(at, request.length);
        break;
      case block::Op::flush:
        break;
    }
  }

  const block::Limits limits_;
  std::byte* const memory_;
  block::Completions completions_;
};

}  // namespace

MemoryDevice::MemoryDevice(MemoryOptions options, std::byte* memory)
    : options_(std::move(options)), memory_(memory) {
  limits_.size = options_.size;
  limits_.logical_block_size = options_.logical_block_size;
  limits_.physical_block_size = std::max<std::uint32_t>(4096, options_.logical_block_size);
  limits_.read_only = options_.read_only;
  limits_.fua = true;  // as stable as it will ever be
  if (options_.read_only) return;
  limits_.max_discard = limits_.max_write_zeroes = limits_.max_secure_erase = options_.size;
  limits_.discard_granularity = limits_.physical_block_size;
}

MemoryDevice::~MemoryDevice() { ::munmap(memory_, options_.size); }

Result<std::unique_ptr<MemoryDevice>> MemoryDevice::create(MemoryOptions options) {
  const std::uint32_t block = options.logical_block_size;
  if (!std::has_single_bit(block) || block < 512 || block > 65536) return fail_errno(EINVAL);
  if (options.size == 0 || options.size % block != 0) return fail_errno(EINVAL);
  void* memory = ::mmap(nullptr, options.size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno);
  return std::unique_ptr<MemoryDevice>(
      new MemoryDevice(std::move(options), static_cast<std::byte*>(memory)));
}

Result<std::unique_ptr<block::Queue>> MemoryDevice::open_queue(Loop& loop) {
  return std::make_unique<MemoryQueue>(loop, limits_, memory_);
}

std::uint64_t MemoryDevice::resident_bytes() const {
  const std::uint64_t page = page_size();
  std::vector<unsigned char> present((options_.size + page - 1) / page);
  if (::mincore(memory_, options_.size, present.data()) != 0) return 0;
  return page * static_cast<std::uint64_t>(std::count_if(
                    present.begin(), present.end(), [](unsigned char p) { return (p & 1) != 0; }));
}

}  // namespace rnbd::backend
