#include "fabric/verbs/windows.h"

#include <cerrno>
#include <cstring>
#include <limits>

#include "base/assert.h"
#include "base/log.h"

namespace rnbd::fabric::verbs {

WindowTable::WindowTable(BlockSource& source, const ArenaOptions& options, std::uint32_t windows,
                         ibv_pd* type2)
    : arena_(source, options), type2_(type2), random_(SystemRandom().next()), windows_(windows) {}

WindowTable::~WindowTable() { clear(); }

Result<WindowTable::Window*> WindowTable::open(std::uint32_t window, std::span<const iovec> local) {
  if (window >= windows_.size()) return fail_errno(EINVAL);
  Window& entry = windows_[window];
  if (entry.exposed) return fail_errno(EBUSY);
  std::uint64_t length = 0;
  for (const iovec& part : local) length += part.iov_len;
  if (length > std::numeric_limits<std::uint32_t>::max()) return fail_errno(EINVAL);
  if (type2_ != nullptr && entry.handle == nullptr) {
    entry.handle = ibv_alloc_mw(type2_, IBV_MW_TYPE_2);
    if (entry.handle == nullptr) return fail_errno(errno);
    entry.key = entry.handle->rkey;
  }
  auto slice = arena_.take(length);
  if (!slice) return fail(slice.error());
  entry.exposed = true;
  ++exposed_;
  entry.slice = *slice;
  entry.length = static_cast<std::uint32_t>(length);
  entry.parts.assign(local.begin(), local.end());
  entry.key = type2_ != nullptr ? next_key(entry) : slice->remote_key();
  entry.mark = random_.next();
  if (entry.length >= kMarked) {
    std::memcpy(&entry.below, mark_at(entry), sizeof entry.below);
    std::memcpy(mark_at(entry), &entry.mark, sizeof entry.mark);
  }
  return &entry;
}

// A library builds the work request from the key the handle holds, that of the last binding, and
// leaves it to us to keep it so.
std::uint32_t WindowTable::next_key(Window& window) {
  window.handle->rkey = window.key;
  return ibv_inc_rkey(window.key);
}

RemoteSpan WindowTable::remote_of(const Window& window) const {
  return {.address = reinterpret_cast<std::uintptr_t>(window.slice.data),
          .key = window.key,
          .length = window.length};
}

void WindowTable::fill_bind(const Window& window, ibv_send_wr& request) const {
  request.opcode = IBV_WR_BIND_MW;
  request.bind_mw.mw = window.handle;
  request.bind_mw.rkey = window.key;
  request.bind_mw.bind_info.mr = static_cast<ibv_mr*>(window.slice.block->handle());
  request.bind_mw.bind_info.addr = reinterpret_cast<std::uintptr_t>(window.slice.data);
  request.bind_mw.bind_info.length = window.length;
  request.bind_mw.bind_info.mw_access_flags = IBV_ACCESS_REMOTE_WRITE;
}

std::byte* WindowTable::mark_at(const Window& window) const {
  return window.slice.data + window.length - sizeof window.mark;
}

bool WindowTable::filled(std::uint32_t window) const {
  const Window& entry = windows_[window];
  if (!entry.exposed || entry.length < kMarked) return true;
  return std::memcmp(mark_at(entry), &entry.mark, sizeof entry.mark) != 0;
}

Slice WindowTable::close(Window& window) {
  RNBD_ASSERT(window.exposed);
  if (window.length >= kMarked &&
      std::memcmp(mark_at(window), &window.mark, sizeof window.mark) == 0) {
    std::memcpy(mark_at(window), &window.below, sizeof window.below);
  }
  const std::byte* from = window.slice.data;
  for (const iovec& part : window.parts) {
    if (part.iov_len != 0) std::memcpy(part.iov_base, from, part.iov_len);
    from += part.iov_len;
  }
  window.exposed = false;
  --exposed_;
  return std::exchange(window.slice, Slice{});
}

WindowTable::Window* WindowTable::find(std::uint32_t window) {
  return window < windows_.size() && windows_[window].exposed ? &windows_[window] : nullptr;
}

WindowTable::Window* WindowTable::find_key(std::uint32_t key) {
  for (Window& window : windows_) {
    if (window.exposed && window.key == key) return &window;
  }
  return nullptr;
}

void WindowTable::unbind() {
  for (Window& window : windows_) {
    if (window.handle == nullptr) continue;
    const int error = ibv_dealloc_mw(std::exchange(window.handle, nullptr));
    if (error != 0) log_error("cannot free a memory window: {}", from_errno(error).message());
  }
}

void WindowTable::clear() {
  unbind();
  for (Window& window : windows_) window.exposed = false;
  exposed_ = 0;
  arena_.clear();
}

}  // namespace rnbd::fabric::verbs
