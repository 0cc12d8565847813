#pragma once
// How much memory this process may pin. What is registered with an RDMA device counts against
// RLIMIT_MEMLOCK, unless the process has CAP_IPC_LOCK.

#include <cstddef>
#include <optional>
#include <string>

#include "fabric/fabric.h"

namespace rnbd::fabric::verbs {

std::optional<std::size_t> memlock_limit();  // bytes; nullopt: no limit

// Empty when `need` bytes can be pinned; else what is wrong and what to do about it, for people.
std::string memlock_complaint(std::size_t need);

// What the queues and the bounce memory of one connection pin when all of it is in use:
// `send_bytes` and `window_bytes` are what one work item carries, and one window exposes, at most.
std::size_t connection_memory(const ConnectionOptions& options, std::size_t send_bytes,
                              std::size_t window_bytes);

}  // namespace rnbd::fabric::verbs
