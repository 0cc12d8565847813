#include "fabric/verbs/domain.h"

#include <cerrno>
#include <limits>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd::fabric::verbs {

Result<std::unique_ptr<VerbsDomain>> VerbsDomain::create(CmId anchor, const Options& options) {
  auto device = Device::of(anchor->verbs);
  if (!device) return fail(device.error());
  ibv_pd* pd = ibv_alloc_pd((*device)->context());
  if (pd == nullptr) return fail_errno(errno);
  const bool windows =
      options.windows && (!(*device)->is_software() || options.windows_of_software);
  return std::unique_ptr<VerbsDomain>(
      new VerbsDomain(std::move(anchor), std::move(*device), pd, windows));
}

VerbsDomain::VerbsDomain(CmId anchor, std::shared_ptr<Device> device, ibv_pd* pd, bool windows)
    : anchor_(std::move(anchor)),
      device_(std::move(device)),
      port_(anchor_->port_num),
      pd_(pd),
      type2_windows_(windows && device_->has_type2_windows()),
      capabilities_{.name = "verbs",
                    .send_imm = true,
                    .remote_invalidate = type2_windows_ && !device_->is_software(),
                    .send_invalidate = device_->can_send_invalidate(),
                    .keyed_gates = windows && device_->has_type1_windows()} {}

VerbsDomain::~VerbsDomain() {
  for (const Region& region : regions_) RNBD_ASSERT(region.begin.load() == 0);
  const int error = ibv_dealloc_pd(pd_);
  if (error != 0) log_error("cannot free a protection domain: {}", from_errno(error).message());
}

Result<std::unique_ptr<Memory>> VerbsDomain::register_memory(const MemoryOptions& options) {
  if (options.size == 0 || options.size > (std::size_t{1} << 46)) return fail_errno(EINVAL);
  const bool gates = options.chunk_size != 0 && capabilities_.keyed_gates;
  int access = IBV_ACCESS_LOCAL_WRITE;
  if (gates) {
    access |= IBV_ACCESS_MW_BIND;
  } else if (options.access == Access::remote_write) {
    access |= IBV_ACCESS_REMOTE_WRITE;
  }
  auto memory = RegisteredMemory::make(pd_, options.size, access);
  if (!memory) return fail(memory.error());
  std::unique_ptr<ChunkWindows> windows;
  if (gates) {
    auto made = ChunkWindows::create(pd_, **memory, options.chunk_size);
    if (!made) return fail(made.error());
    windows = std::move(*made);
  }
  return std::make_unique<VerbsMemory>(*this, std::move(*memory), std::move(windows));
}

bool VerbsDomain::find(const void* address, std::size_t length, std::uint32_t& key) const {
  const auto begin = reinterpret_cast<std::uintptr_t>(address);
  for (const Region& region : regions_) {
    const std::uintptr_t start = region.begin.load(std::memory_order_acquire);
    if (start == 0 || begin < start || begin >= region.end || length > region.end - begin) continue;
    key = region.key;
    return true;
  }
  return false;
}

VerbsMemory::VerbsMemory(VerbsDomain& domain, std::unique_ptr<RegisteredMemory> memory,
                         std::unique_ptr<ChunkWindows> windows)
    : memory_(std::move(memory)), windows_(std::move(windows)) {
  for (auto& region : domain.regions_) {
    if (region.begin.load() != 0) continue;
    const auto bytes = memory_->bytes();
    const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
    region.end = begin + bytes.size();
    region.key = memory_->local_key();
    region.begin.store(begin, std::memory_order_release);
    region_ = &region;
    return;
  }
}

VerbsMemory::~VerbsMemory() {
  if (region_ != nullptr) region_->begin.store(0, std::memory_order_release);
}

RemoteSpan VerbsMemory::remote(std::size_t offset, std::size_t length) const {
  const auto bytes = memory_->bytes();
  RNBD_ASSERT(offset <= bytes.size() && length <= bytes.size() - offset);
  RNBD_ASSERT(length <= std::numeric_limits<std::uint32_t>::max());
  return {.address = reinterpret_cast<std::uintptr_t>(bytes.data() + offset),
          .key = memory_->remote_key(),
          .length = static_cast<std::uint32_t>(length)};
}

}  // namespace rnbd::fabric::verbs
