#include "backend/file/file_device.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "backend/file/blocking_worker.h"
#include "backend/file/file_queue.h"
#include "base/event.h"
#include "base/log.h"
#include "reactor/reactor.h"

namespace rnbd::backend {
namespace {

tl::unexpected<std::error_code> refuse(const FileOptions& options, int error, const char* what) {
  log_error("{}: {}: {}", options.name, what, std::strerror(error));
  return fail_errno(error);
}

UniqueFd open_again(int fd, int flags) {
  return UniqueFd(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), flags | O_CLOEXEC));
}

// With the lock that keeps other writers away; errno says what went wrong.
Result<UniqueFd> open_locked(int which, const FileOptions& options) {
  struct stat status {};
  if (::fstat(which, &status) != 0) return fail_errno(errno);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) return fail_errno(ENOTBLK);
  int flags = options.read_only ? O_RDONLY : O_RDWR;
  if (!options.read_only && S_ISBLK(status.st_mode)) flags |= O_EXCL;
  UniqueFd fd = open_again(which, flags);
  if (!fd) return fail_errno(errno);
  int lock = 0;
  if (!options.read_only && S_ISREG(status.st_mode)) lock = LOCK_EX;
  if (options.read_only && options.shared_lock) lock = LOCK_SH;
  if (lock != 0 && ::flock(fd.get(), lock | LOCK_NB) != 0)
    return fail_errno(errno == EWOULDBLOCK ? EBUSY : errno);
  return fd;
}

// Whether direct I/O serves every request: aligned to what we offer as block, and really working.
bool direct_works(int fd, const FileGeometry& geometry, std::uint32_t block) {
  if (geometry.in_memory) return false;  // some kernels accept the flag there, without meaning
  if (geometry.direct_offset_alignment == 0 || geometry.direct_offset_alignment > block)
    return false;
  if (geometry.direct_memory_alignment == 0 || geometry.direct_memory_alignment > 4096)
    return false;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return false;
  alignas(4096) static thread_local std::byte probe[65536];
  if (::pread(fd, probe, std::max<std::uint32_t>(block, geometry.direct_offset_alignment), 0) >= 0)
    return true;
  ::fcntl(fd, F_SETFL, flags);
  return false;
}

}  // namespace

FileDevice::FileDevice(UniqueFd fd, FileOptions options, FileGeometry geometry, bool direct)
    : fd_(std::move(fd)),
      options_(std::move(options)),
      geometry_(std::move(geometry)),
      direct_(direct) {
  if (geometry_.block_device && !options_.read_only) worker_ = std::make_unique<BlockingWorker>();
}

FileDevice::~FileDevice() = default;

Result<std::unique_ptr<FileDevice>> FileDevice::open_path(const std::string& path,
                                                          FileOptions options) {
  if (options.name.empty()) options.name = path;
  UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) return refuse(options, errno, "cannot find it");
  return open(std::move(fd), std::move(options));
}

Result<std::unique_ptr<FileDevice>> FileDevice::open(UniqueFd which, FileOptions options) {
  const std::uint32_t wanted = options.logical_block_size;
  if (!std::has_single_bit(wanted) || wanted < 512 || wanted > 65536)
    return refuse(options, EINVAL, "bad block size");
  auto fd = open_locked(which.get(), options);
  if (!fd) {
    const int error = fd.error().value();
    return refuse(options, error,
                  error == EBUSY ? "somebody else uses it and holds its lock" : "cannot open it");
  }
  auto geometry = examine(fd->get(), !options.read_only);
  if (!geometry) return refuse(options, geometry.error().value(), "cannot examine it");
  if (!geometry->block_device) {
    geometry->logical_block_size = wanted;
    geometry->physical_block_size = std::max(geometry->physical_block_size, wanted);
  }
  const std::uint32_t block = geometry->logical_block_size;
  if (geometry->size < block) return refuse(options, EINVAL, "it is smaller than one block");
  const bool direct =
      options.cache != FileOptions::Cache::buffered && direct_works(fd->get(), *geometry, block);
  if (!direct && options.cache == FileOptions::Cache::direct)
    return refuse(options, EINVAL, "no direct I/O here");
  log_info("{}: {} {}, {} bytes in blocks of {}, {}{}", options.name,
           geometry->block_device ? "device" : "file", geometry->identity,
           geometry->size / block * block, block, direct ? "direct" : "through the page cache",
           options.read_only ? ", read-only" : "");
  const std::uint64_t size = geometry->size;
  std::unique_ptr<FileDevice> device(
      new FileDevice(std::move(*fd), std::move(options), std::move(*geometry), direct));
  device->set_size(size);
  return device;
}

void FileDevice::set_size(std::uint64_t size) {
  const std::uint64_t tail = size % geometry_.logical_block_size;
  const bool changed = size_.exchange(size - tail, std::memory_order_relaxed) != size - tail;
  if (tail != 0 && changed)
    log_warning("{}: the last {} bytes are less than a block and not served", name(), tail);
}

Result<std::uint64_t> FileDevice::refresh_size() {
  const auto size = examine_size(fd_.get());
  if (!size) return size;
  set_size(*size);
  return size_.load(std::memory_order_relaxed);
}

block::Limits FileDevice::limits() const {
  block::Limits limits;
  limits.size = size_.load(std::memory_order_relaxed);
  limits.logical_block_size = geometry_.logical_block_size;
  limits.physical_block_size = geometry_.physical_block_size;
  limits.read_only = options_.read_only;
  limits.fua = true;
  limits.volatile_cache = !options_.write_through;
  if (options_.read_only) return limits;
  limits.max_write_zeroes = limits.size;
  if (geometry_.can_discard) {
    limits.max_discard = limits.size;
    limits.discard_granularity =
        std::max(geometry_.discard_granularity, geometry_.logical_block_size);
  }
  if (geometry_.can_secure_erase) limits.max_secure_erase = limits.size;
  return limits;
}

void FileDevice::poison(const char* what, int error) {
  if (poisoned_.exchange(true)) return;
  log_event({.name = "flush_failed",
             .level = LogLevel::error,
             .device = name(),
             .error = from_errno(error)},
            "{}: {} failed: {}; acknowledged writes may be lost, flushes fail from now on", name(),
            what, std::strerror(error));
}

Result<std::unique_ptr<block::Queue>> FileDevice::open_queue(Loop& loop) {
  auto* reactor = dynamic_cast<Reactor*>(&loop);
  if (reactor == nullptr) return fail_errno(EINVAL);
  return std::make_unique<FileQueue>(*this, *reactor);
}

}  // namespace rnbd::backend
