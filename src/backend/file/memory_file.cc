#include "backend/file/memory_file.h"

#include <limits.h>
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"

namespace rnbd::backend {

bool lives_in_memory(int fd) {
  struct statfs system {};
  return ::fstatfs(fd, &system) == 0 && system.f_type == TMPFS_MAGIC;
}

std::error_code transfer_now(int fd, const block::Request& request) {
  const bool read = request.op == block::Op::read;
  auto offset = static_cast<off_t>(request.offset);
  auto rest = request.segments;
  std::size_t skip = 0;  // bytes of the first segment that are done
  for (;;) {
    while (!rest.empty() && skip >= rest[0].iov_len) {
      skip -= rest[0].iov_len;
      rest = rest.subspan(1);
    }
    if (rest.empty()) return {};
    ssize_t bytes = 0;
    if (skip == 0) {
      const auto count = static_cast<int>(std::min<std::size_t>(rest.size(), IOV_MAX));
      bytes = read ? ::preadv(fd, rest.data(), count, offset)
                   : ::pwritev(fd, rest.data(), count, offset);
    } else {
      auto* memory = static_cast<std::byte*>(rest[0].iov_base) + skip;
      const std::size_t length = rest[0].iov_len - skip;
      bytes = read ? ::pread(fd, memory, length, offset) : ::pwrite(fd, memory, length, offset);
    }
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) return from_errno(bytes == 0 ? EIO : errno);
    offset += bytes;
    skip += static_cast<std::size_t>(bytes);
  }
}

}  // namespace rnbd::backend
