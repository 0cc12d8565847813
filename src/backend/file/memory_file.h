#pragma once
// Transfers for files that live in memory (tmpfs). The kernel has no way to start one without
// blocking, so the ring hands each to a thread of its own, at several times the price of the copy
// that it is.

#include <system_error>

#include "block/request.h"

namespace rnbd::backend {

bool lives_in_memory(int fd);
// Does all of a read or write now. EIO where the file ends early.
std::error_code transfer_now(int fd, const block::Request& request);

}  // namespace rnbd::backend
