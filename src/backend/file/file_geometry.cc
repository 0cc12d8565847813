#include "backend/file/file_geometry.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <fstream>

#include "backend/file/memory_file.h"

namespace rnbd::backend {
namespace {

// A number from /sys of a block device; partitions keep their queue with the whole disk.
std::uint32_t sysfs_number(dev_t device, const char* attribute) {
  for (const char* up : {"", "../"}) {
    std::ifstream file(fmt::format("/sys/dev/block/{}:{}/{}queue/{}", major(device), minor(device),
                                   up, attribute));
    std::uint32_t value = 0;
    if (file >> value) return value;
  }
  return 0;
}

// The kernel looks whether the device can at all before it looks at the range: this one is
// misaligned.
bool device_can(int fd, unsigned long request) {
  std::array<std::uint64_t, 2> nothing{1, 1};
  return ::ioctl(fd, request, nothing.data()) != 0 && errno == EINVAL;
}

void examine_device(int fd, dev_t device, bool writable, FileGeometry& out) {
  int logical = 512;
  unsigned physical = 512;
  if (::ioctl(fd, BLKSSZGET, &logical) == 0)
    out.logical_block_size = static_cast<std::uint32_t>(logical);
  if (::ioctl(fd, BLKPBSZGET, &physical) == 0) out.physical_block_size = physical;
  out.direct_memory_alignment = out.direct_offset_alignment = out.logical_block_size;
  if (writable) {
    out.can_discard = device_can(fd, BLKDISCARD);
    out.can_secure_erase = device_can(fd, BLKSECDISCARD);
  }
  if (out.can_discard) out.discard_granularity = sysfs_number(device, "discard_granularity");
  out.identity = fmt::format("{}:{}", major(device), minor(device));
}

void examine_file(int fd, const struct stat& status, bool writable, FileGeometry& out) {
  const auto block = static_cast<std::uint32_t>(std::clamp<long>(status.st_blksize, 512, 65536));
  out.physical_block_size = std::has_single_bit(block) ? block : 4096;
  if (writable) {
    const off_t beyond = (status.st_size / 65536 + 1) * 65536;
    out.can_discard =
        ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, 65536) == 0;
  }
  if (out.can_discard) out.discard_granularity = out.physical_block_size;
  out.identity = fmt::format("{}:{}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino);
}

// What the kernel knows of direct I/O here (6.1 for files, 6.11 for devices); else the caller
// tries.
void examine_direct(int fd, FileGeometry& out) {
#ifdef STATX_DIOALIGN
  struct statx more {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &more) != 0 ||
      (more.stx_mask & STATX_DIOALIGN) == 0)
    return;
  out.direct_memory_alignment = more.stx_dio_mem_align;
  out.direct_offset_alignment = more.stx_dio_offset_align;
#endif
}

}  // namespace

Result<FileGeometry> examine(int fd, bool writable) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno(errno);
  FileGeometry out;
  out.block_device = S_ISBLK(status.st_mode);
  if (!out.block_device && !S_ISREG(status.st_mode)) return fail_errno(ENOTBLK);
  const auto size = examine_size(fd);
  if (!size) return fail(size.error());
  out.size = *size;
  if (out.block_device) {
    examine_device(fd, status.st_rdev, writable, out);
  } else {
    // Unless the kernel says: what every file system that has direct I/O accepts.
    out.direct_memory_alignment = out.direct_offset_alignment = 4096;
    examine_file(fd, status, writable, out);
    out.in_memory = lives_in_memory(fd);
  }
  examine_direct(fd, out);
  return out;
}

Result<std::uint64_t> examine_size(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno(errno);
  if (!S_ISBLK(status.st_mode)) return static_cast<std::uint64_t>(status.st_size);
  std::uint64_t size = 0;
  if (::ioctl(fd, BLKGETSIZE64, &size) != 0) return fail_errno(errno);
  return size;
}

}  // namespace rnbd::backend
