#include "fabric/verbs/memlock.h"

#include <fmt/core.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace rnbd::fabric::verbs {
namespace {

// Rings are shared with the kernel per entry of about so many bytes.
constexpr std::size_t kSendEntry = 256;
constexpr std::size_t kReceiveEntry = 128;
constexpr std::size_t kCompletionEntry = 128;

bool may_lock_without_limit() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[2]{};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_IPC_LOCK / 32].effective & (1U << (CAP_IPC_LOCK % 32))) != 0;
}

}  // namespace

std::optional<std::size_t> memlock_limit() {
  rlimit limit{};
  if (may_lock_without_limit() || ::getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return std::nullopt;
  if (limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

std::string memlock_complaint(std::size_t need) {
  const auto limit = memlock_limit();
  if (!limit || *limit >= need) return {};
  return fmt::format(
      "RDMA needs {} KiB of pinned memory, and this process may pin {} KiB (RLIMIT_MEMLOCK): raise "
      "the limit (LimitMEMLOCK= in its systemd unit, ulimit -l in a shell) or give it CAP_IPC_LOCK",
      (need + 1023) / 1024, *limit / 1024);
}

std::size_t connection_memory(const ConnectionOptions& options, std::size_t send_bytes,
                              std::size_t window_bytes) {
  const std::size_t entries = std::size_t{2} * options.send_depth + options.receive_depth;
  return 2 * options.send_depth * kSendEntry + options.receive_depth * kReceiveEntry +
         entries * kCompletionEntry + options.send_depth * send_bytes +
         options.windows * window_bytes;
}

}  // namespace rnbd::fabric::verbs
