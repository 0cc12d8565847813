#include "fabric/verbs/chunk_windows.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd::fabric::verbs {

Result<std::unique_ptr<ChunkWindows>> ChunkWindows::create(ibv_pd* pd, RegisteredMemory& memory,
                                                           std::size_t chunk_size) {
  std::unique_ptr<ChunkWindows> all(new ChunkWindows(memory, chunk_size));
  const std::size_t count = (memory.bytes().size() + chunk_size - 1) / chunk_size;
  for (std::size_t i = 0; i < count; ++i) {
    ibv_mw* const window = ibv_alloc_mw(pd, IBV_MW_TYPE_1);
    if (window == nullptr) {
      const int error = errno;
      log_error("{} gives no {} memory windows: {}", ibv_get_device_name(pd->context->device),
                count, from_errno(error).message());
      return fail_errno(error);
    }
    all->windows_.push_back(window);
  }
  return all;
}

ChunkWindows::~ChunkWindows() {
  for (ibv_mw* window : windows_) {
    const int error = ibv_dealloc_mw(window);
    if (error != 0) log_error("cannot free a memory window: {}", from_errno(error).message());
  }
}

std::span<std::byte> ChunkWindows::bytes(std::size_t chunk) const {
  const auto all = memory_.bytes();
  const std::size_t offset = chunk * chunk_size_;
  return all.subspan(offset, std::min(chunk_size_, all.size() - offset));
}

// Bound to no bytes a window is shut. It keeps its place in the memory: libraries and drivers want
// to find it there.
int ChunkWindows::bind(ibv_qp* pair, std::size_t chunk, bool open, std::uint64_t name) {
  RNBD_ASSERT(chunk < windows_.size());
  const auto where = bytes(chunk);
  ibv_mw_bind request{};
  request.wr_id = name;
  request.send_flags = IBV_SEND_SIGNALED;
  request.bind_info.mr = static_cast<ibv_mr*>(memory_.handle());
  request.bind_info.addr = reinterpret_cast<std::uintptr_t>(where.data());
  request.bind_info.length = open ? where.size() : 0;
  request.bind_info.mw_access_flags = open ? IBV_ACCESS_REMOTE_WRITE : 0;
  return ibv_bind_mw(pair, windows_[chunk], &request);
}

RemoteSpan ChunkWindows::remote(std::size_t chunk) const {
  const auto where = bytes(chunk);
  return {.address = reinterpret_cast<std::uintptr_t>(where.data()),
          .key = windows_[chunk]->rkey,
          .length = static_cast<std::uint32_t>(where.size())};
}

}  // namespace rnbd::fabric::verbs
