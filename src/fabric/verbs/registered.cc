#include "fabric/verbs/registered.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/log.h"
#include "fabric/verbs/memlock.h"

namespace rnbd::fabric::verbs {

std::error_code GuardedMapping::map(std::size_t size) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t usable = (size + page - 1) / page * page;
  const std::size_t all = usable + 2 * page;
  void* start = ::mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return from_errno(errno);
  all_ = {static_cast<std::byte*>(start), all};
  bytes_ = all_.subspan(page, size);
  if (::mprotect(bytes_.data(), usable, PROT_READ | PROT_WRITE) != 0) return from_errno(errno);
  // A child that got a copy of a pinned page could take the page itself from us.
  if (::madvise(bytes_.data(), usable, MADV_DONTFORK) != 0) return from_errno(errno);
  ::madvise(bytes_.data(), usable, MADV_DONTDUMP);  // best effort
  return {};
}

GuardedMapping::~GuardedMapping() {
  if (!all_.empty()) ::munmap(all_.data(), all_.size());
}

Result<std::unique_ptr<RegisteredMemory>> RegisteredMemory::make(ibv_pd* pd, std::size_t size,
                                                                 int access) {
  std::unique_ptr<RegisteredMemory> memory(new RegisteredMemory);
  if (const auto error = memory->mapping_.map(size)) return fail(error);
  memory->remote_ = (access & IBV_ACCESS_REMOTE_WRITE) != 0;
  // The function, not the macro around it, which is for optional access flags.
  memory->region_ = (ibv_reg_mr)(pd, memory->mapping_.bytes().data(), size, access);
  if (memory->region_ != nullptr) return memory;
  const int error = errno;
  const std::string complaint = error == ENOMEM ? memlock_complaint(size) : std::string();
  log_error("cannot register {} bytes with {}: {}{}{}", size,
            ibv_get_device_name(pd->context->device), from_errno(error).message(),
            complaint.empty() ? "" : "; ", complaint);
  return fail_errno(error);
}

RegisteredMemory::~RegisteredMemory() {
  if (region_ == nullptr) return;
  const int error = ibv_dereg_mr(region_);
  if (error != 0) log_error("cannot deregister memory: {}", from_errno(error).message());
}

}  // namespace rnbd::fabric::verbs
