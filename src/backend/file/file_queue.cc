#include "backend/file/file_queue.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "backend/file/blocking_worker.h"
#include "backend/file/memory_file.h"

namespace rnbd::backend {
namespace {

constexpr std::size_t kTransferMax = std::size_t{1} << 30;  // of one ring operation
constexpr std::size_t kZerosBytes = 256 * 1024;
alignas(4096) std::byte zeros[kZerosBytes];  // never written

}  // namespace

FileQueue::FileQueue(FileDevice& device, Reactor& reactor)
    : device_(device),
      reactor_(reactor),
      limits_(device.limits()),
      fd_(device.fd_.get()),
      completions_(reactor) {
  grow();
}

FileQueue::~FileQueue() {
  RNBD_ASSERT(waiting_.empty());
  RNBD_ASSERT(completions_.empty());
  RNBD_ASSERT(free_.size() == slots_.size() * kSlotsPerGrowth);
}

void FileQueue::submit(block::Request& request) {
  if (limits_.size != device_.size_.load(std::memory_order_relaxed)) limits_ = device_.limits();
  const std::error_code error = admit(request);
  const bool nothing_to_do = request.length == 0 && request.op != block::Op::flush &&
                             (request.flags & block::kPreflush) == 0;
  if (error || nothing_to_do) return completions_.add(request, error);
  if (device_.geometry_.in_memory && block::carries_data(request.op) && !device_.hook_) {
    return completions_.add(
        request, transfer_now(fd_, request));  // its flags ask for nothing tmpfs could do
  }
  if (!waiting_.empty() || !start(request)) waiting_.push_back(request);
}

std::error_code FileQueue::admit(const block::Request& request) const {
  if (const auto error = block::check(request, limits_)) return error;
  const bool promises_stability = request.op == block::Op::flush ||
                                  (request.flags & (block::kFua | block::kPreflush)) != 0 ||
                                  (device_.options_.write_through && block::modifies(request.op));
  return promises_stability && device_.poisoned() ? from_errno(EIO) : std::error_code{};
}

// Direct I/O wants every segment aligned; the offset and the length are, by the block size.
bool FileQueue::needs_bounce(const block::Request& request) const {
  if (!device_.direct_ || !block::carries_data(request.op)) return false;
  const std::uintptr_t memory_mask = device_.geometry_.direct_memory_alignment - 1U;
  const std::size_t length_mask = device_.geometry_.direct_offset_alignment - 1U;
  for (const iovec& segment : request.segments) {
    if ((reinterpret_cast<std::uintptr_t>(segment.iov_base) & memory_mask) != 0) return true;
    if ((segment.iov_len & length_mask) != 0) return true;
  }
  return false;
}

bool FileQueue::grow() {
  if (slots_.size() * kSlotsPerGrowth >= kSlotsMax) return false;
  slots_.push_back(std::make_unique<std::array<Slot, kSlotsPerGrowth>>());
  free_.reserve(slots_.size() * kSlotsPerGrowth);
  for (Slot& slot : *slots_.back()) {
    slot.op.complete = &FileQueue::on_complete;
    slot.queue = this;
    free_.push_back(&slot);
  }
  return true;
}

// False when it must wait for a slot or a bounce buffer: one of those in use will come back.
bool FileQueue::start(block::Request& request) {
  std::byte* bounce = nullptr;
  if (needs_bounce(request)) {
    bounce = bounces_.acquire();
    if (bounce == nullptr) return false;
  }
  if (free_.empty() && !grow()) {
    if (bounce != nullptr) bounces_.release(bounce);
    return false;
  }
  Slot& slot = *free_.back();
  free_.pop_back();
  slot.request = &request;
  slot.bounce = bounce;
  slot.position = 0;
  slot.retries = 0;
  if (request.op == block::Op::flush) {
    slot.step = Step::sync;
  } else if ((request.flags & block::kPreflush) != 0) {
    slot.step = Step::preflush;
  } else {
    slot.step = block::carries_data(request.op) ? Step::transfer : Step::range;
  }
  run(slot);
  return true;
}

void FileQueue::start_waiting() {
  while (!waiting_.empty()) {
    block::Request& request = waiting_.pop_front();
    if (start(request)) continue;
    waiting_.push_front(request);
    return;
  }
}

void FileQueue::run(Slot& slot) {
  switch (slot.step) {
    case Step::preflush:
    case Step::sync:
      return run_sync(slot);
    case Step::transfer:
      return slot.bounce == nullptr ? run_transfer(slot) : run_bounced(slot);
    case Step::range:
      return run_range(slot);
    case Step::zeros:
      return run_zeros(slot);
  }
}

template <class Prepare>
void FileQueue::issue(Slot& slot, Prepare&& prepare) {
  reactor_.submit(slot.op, [&](io_uring_sqe* entry) {
    prepare(entry);
    slot.opcode = entry->opcode;
  });
}

void FileQueue::run_sync(Slot& slot) {
  issue(slot, [&](io_uring_sqe* entry) { io_uring_prep_fsync(entry, fd_, IORING_FSYNC_DATASYNC); });
}

bool FileQueue::wants_sync(const block::Request& request) const {
  return (request.flags & block::kFua) != 0 || device_.options_.write_through;
}

// All that is left if it lies in whole segments, else the rest of the segment that was cut.
void FileQueue::run_transfer(Slot& slot) {
  const block::Request& request = *slot.request;
  std::uint64_t skip = slot.position;
  std::size_t index = 0;
  while (index < request.segments.size() && skip >= request.segments[index].iov_len)
    skip -= request.segments[index++].iov_len;
  const auto rest = request.segments.subspan(index);
  const std::uint64_t offset = request.offset + slot.position;
  const bool read = request.op == block::Op::read;
  const int flags = !read && wants_sync(request) ? RWF_DSYNC : 0;
  if (skip == 0 && rest.size() > 1) {
    const auto count = static_cast<unsigned>(std::min<std::size_t>(rest.size(), IOV_MAX));
    issue(slot, [&](io_uring_sqe* entry) {
      if (read) return io_uring_prep_readv2(entry, fd_, rest.data(), count, offset, flags);
      io_uring_prep_writev2(entry, fd_, rest.data(), count, offset, flags);
    });
    return;
  }
  std::byte* memory = rest.empty() ? zeros : static_cast<std::byte*>(rest[0].iov_base) + skip;
  const auto length =
      rest.empty() ? 0U : static_cast<unsigned>(std::min(rest[0].iov_len - skip, kTransferMax));
  const int fixed = reactor_.buffer_index(memory, length);
  issue(slot, [&](io_uring_sqe* entry) {
    if (read && fixed >= 0)
      return io_uring_prep_read_fixed(entry, fd_, memory, length, offset, fixed);
    if (read) return io_uring_prep_read(entry, fd_, memory, length, offset);
    if (fixed >= 0) {
      io_uring_prep_write_fixed(entry, fd_, memory, length, offset, fixed);
    } else {
      io_uring_prep_write(entry, fd_, memory, length, offset);
    }
    entry->rw_flags = flags;
  });
}

void FileQueue::run_bounced(Slot& slot) {
  const block::Request& request = *slot.request;
  const std::size_t length =
      std::min<std::size_t>(request.length - slot.position, BouncePool::kBytes);
  const std::uint64_t offset = request.offset + slot.position;
  if (request.op == block::Op::write) gather(request, slot.position, slot.bounce, length);
  issue(slot, [&](io_uring_sqe* entry) {
    if (request.op == block::Op::read)
      return io_uring_prep_read(entry, fd_, slot.bounce, static_cast<unsigned>(length), offset);
    io_uring_prep_write(entry, fd_, slot.bounce, static_cast<unsigned>(length), offset);
    entry->rw_flags = wants_sync(request) ? RWF_DSYNC : 0;
  });
}

// Discards and zeroes by the file system, or by the device.
void FileQueue::run_range(Slot& slot) {
  const block::Request& request = *slot.request;
  if (request.op == block::Op::secure_erase) return run_ioctl(slot, BLKSECDISCARD);
  if (request.op == block::Op::discard && device_.geometry_.block_device)
    return run_ioctl(slot, BLKDISCARD);
  const bool may_unmap = request.op == block::Op::discard || (request.flags & block::kNoUnmap) == 0;
  if (may_unmap && !device_.no_punch_hole_.load(std::memory_order_relaxed)) {
    slot.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  } else if (!device_.no_zero_range_.load(std::memory_order_relaxed)) {
    slot.mode = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  } else {
    slot.step = Step::zeros;
    return run_zeros(slot);
  }
  issue(slot, [&](io_uring_sqe* entry) {
    io_uring_prep_fallocate(entry, fd_, slot.mode, static_cast<off_t>(request.offset),
                            static_cast<off_t>(request.length));
  });
}

void FileQueue::run_zeros(Slot& slot) {
  const block::Request& request = *slot.request;
  const auto length =
      static_cast<unsigned>(std::min<std::uint64_t>(request.length - slot.position, kZerosBytes));
  issue(slot, [&](io_uring_sqe* entry) {
    io_uring_prep_write(entry, fd_, zeros, length, request.offset + slot.position);
  });
}

// Calls the ring has no operation for block a thread of their own. The slot stays until the answer
// is back.
void FileQueue::run_ioctl(Slot& slot, unsigned long code) {
  slot.opcode = IORING_OP_NOP;
  device_.worker_->run([this, &slot, code] {
    std::array<std::uint64_t, 2> range{slot.request->offset, slot.request->length};
    const int result = ::ioctl(fd_, code, range.data()) == 0 ? 0 : -errno;
    reactor_.post([this, &slot, result] { completed(slot, result); });
  });
}

void FileQueue::on_complete(IoOp& op, int result, std::uint32_t) {
  auto& slot = reinterpret_cast<Slot&>(op);
  slot.queue->completed(slot, result);
}

void FileQueue::completed(Slot& slot, int result) {
  if (device_.hook_) result = device_.hook_(slot.opcode, result);
  if ((result == -EINTR || result == -EAGAIN) && slot.retries < kRetriesMax) {
    ++slot.retries;
    return run(slot);
  }
  switch (slot.step) {
    case Step::preflush:
    case Step::sync:
      return after_sync(slot, result);
    case Step::range:
      return after_range(slot, result);
    case Step::transfer:
    case Step::zeros:
      return after_transfer(slot, result);
  }
}

void FileQueue::after_transfer(Slot& slot, int result) {
  const block::Request& request = *slot.request;
  if (result < 0) {
    if (block::modifies(request.op) && wants_sync(request))
      device_.poison("a write with FUA", -result);
    return finish(slot, from_errno(-result));
  }
  const auto bytes = static_cast<std::uint64_t>(result);
  if (slot.bounce != nullptr && request.op == block::Op::read)
    scatter(slot.bounce, request, slot.position, bytes);
  slot.position += bytes;
  slot.retries = 0;
  if (slot.position < request.length) {
    // Nothing more, or an end in the middle of a block: the file is shorter than it was.
    const bool cut =
        bytes == 0 || (device_.direct_ && slot.position % limits_.logical_block_size != 0);
    return cut ? finish(slot, from_errno(EIO)) : run(slot);
  }
  if (slot.step == Step::zeros) return after_modification(slot);
  // As after_sync: the error of this very write may have been told to another queue.
  const bool hardened = block::modifies(request.op) && wants_sync(request);
  finish(slot, hardened && device_.poisoned() ? from_errno(EIO) : std::error_code{});
}

void FileQueue::after_range(Slot& slot, int result) {
  const bool by_ring = slot.opcode == IORING_OP_FALLOCATE;
  if (result == -EOPNOTSUPP && by_ring && slot.request->op == block::Op::write_zeroes) {
    const bool punching = (slot.mode & FALLOC_FL_PUNCH_HOLE) != 0;
    (punching ? device_.no_punch_hole_ : device_.no_zero_range_)
        .store(true, std::memory_order_relaxed);
    return run(slot);  // the next best way
  }
  if (result < 0) return finish(slot, from_errno(-result));
  after_modification(slot);
}

void FileQueue::after_modification(Slot& slot) {
  if (slot.request->op != block::Op::write_zeroes || !wants_sync(*slot.request))
    return finish(slot, {});
  slot.step = Step::sync;
  slot.retries = 0;
  run(slot);
}

void FileQueue::after_sync(Slot& slot, int result) {
  if (result < 0) {
    device_.poison("a flush", -result);
    return finish(slot, from_errno(EIO));
  }
  // Another queue may have seen the error that this sync was not told of: the kernel reports it
  // once.
  if (device_.poisoned()) return finish(slot, from_errno(EIO));
  if (slot.step == Step::sync) return finish(slot, {});
  const block::Request& request = *slot.request;
  if (request.length == 0) return finish(slot, {});
  slot.step = block::carries_data(request.op) ? Step::transfer : Step::range;
  slot.retries = 0;
  run(slot);
}

// Last of all the call: it may submit again, or destroy this queue.
void FileQueue::finish(Slot& slot, std::error_code result) {
  block::Request& request = *slot.request;
  request.result = result;
  if (slot.bounce != nullptr) bounces_.release(slot.bounce);
  slot.bounce = nullptr;
  slot.request = nullptr;
  free_.push_back(&slot);
  start_waiting();
  request.done(request);
}

}  // namespace rnbd::backend
