#include "fabric/iwarp/keys.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <limits>

namespace rnbd::fabric::iwarp {
namespace {

constexpr std::size_t kWasteSize = 64 << 10;

// The range check of every registration, subtracting so that nothing can overflow.
KeyFault check_range(std::uint64_t base, std::uint64_t length, std::uint64_t offset,
                     std::uint64_t n) {
  if (n > std::numeric_limits<std::uint64_t>::max() - offset) return KeyFault::wrap;
  if (offset < base || offset - base > length) return KeyFault::bounds;
  return n <= length - (offset - base) ? KeyFault::none : KeyFault::bounds;
}

const IwarpMemory* find_memory(const IwarpDomain& domain, std::uint32_t stag) {
  return domain.find(domain.permutation().slot_of(stag >> 8), static_cast<std::uint8_t>(stag));
}

}  // namespace

Keys::Keys(const IwarpDomain& domain, Random& random, std::uint32_t windows)
    : domain_(domain),
      random_(random),
      windows_(windows),
      stride_(std::bit_ceil(std::max(windows, 1U))) {
  RNBD_ASSERT(windows < kWindowSlots);
  for (Window& window : windows_) window.epoch = static_cast<std::uint32_t>(random.next());
}

std::uint32_t Keys::stag_of(std::uint32_t window) const {
  const std::uint32_t epoch = windows_[window].epoch;
  const std::uint32_t turn = (epoch >> 8) % (kWindowSlots / stride_);
  const std::uint32_t slot = kFirstWindowSlot + window + turn * stride_;
  return (domain_.permutation().index_of(slot) << 8) | (epoch & 0xff);
}

Result<RemoteSpan> Keys::expose(std::uint32_t window, std::span<const iovec> local) {
  RNBD_ASSERT(window < windows_.size());
  Window& w = windows_[window];
  if (w.exposed) return fail_errno(EBUSY);
  std::uint64_t length = 0;
  for (const iovec& part : local) length += part.iov_len;
  if (length > std::numeric_limits<std::uint32_t>::max()) return fail_errno(EINVAL);
  ++w.epoch;
  if (stag_of(window) == 0) ++w.epoch;  // STag 0 is never valid
  w.exposed = true;
  w.base = random_base(random_);
  w.length = length;
  w.filled = 0;
  w.parts.assign(local.begin(), local.end());
  return RemoteSpan{
      .address = w.base, .key = stag_of(window), .length = static_cast<std::uint32_t>(length)};
}

void Keys::hide(std::uint32_t window) {
  RNBD_ASSERT(window < windows_.size());
  windows_[window].exposed = false;
}

void Keys::forget(std::uint32_t window) {
  RNBD_ASSERT(window < windows_.size());
  Window& w = windows_[window];
  RNBD_ASSERT(w.exposed);
  waste_.resize(kWasteSize);
  w.parts.clear();
  for (std::uint64_t left = w.length; left > 0;) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left, waste_.size()));
    w.parts.push_back({waste_.data(), size});
    left -= size;
  }
}

const Keys::Window* Keys::find_window(std::uint32_t stag) const {
  const std::uint32_t slot = domain_.permutation().slot_of(stag >> 8);
  if (slot < kFirstWindowSlot) return nullptr;
  const std::uint32_t window = (slot - kFirstWindowSlot) & (stride_ - 1);
  if (window >= windows_.size() || !windows_[window].exposed) return nullptr;
  return stag_of(window) == stag ? &windows_[window] : nullptr;
}

KeyFault Keys::resolve(std::uint32_t stag, std::uint64_t offset, std::uint64_t n,
                       Cursor& target) const {
  if (const Window* window = find_window(stag)) {
    const KeyFault fault = check_range(window->base, window->length, offset, n);
    if (fault == KeyFault::none) target = Cursor(window->parts, offset - window->base);
    return fault;
  }
  const IwarpMemory* memory = find_memory(domain_, stag);
  if (memory == nullptr) return KeyFault::stag;
  if (!memory->remote_write()) return KeyFault::access;
  const KeyFault fault = check_range(memory->base(), memory->length(), offset, n);
  if (fault != KeyFault::none) return fault;
  if (!memory->open(offset - memory->base(), n)) return KeyFault::access;
  target = Cursor(memory->parts(), offset - memory->base());
  return KeyFault::none;
}

void Keys::wrote(std::uint32_t stag, std::uint64_t offset, std::uint64_t n) {
  const Window* found = find_window(stag);
  if (found == nullptr) return;
  Window& window = windows_[static_cast<std::size_t>(found - windows_.data())];
  if (offset - window.base == window.filled) window.filled += n;
}

bool Keys::filled(std::uint32_t window) const {
  RNBD_ASSERT(window < windows_.size());
  return windows_[window].filled >= windows_[window].length;
}

Keys::Invalidation Keys::may_invalidate(std::uint32_t stag) const {
  if (find_window(stag) != nullptr) return Invalidation::allowed;
  return find_memory(domain_, stag) != nullptr ? Invalidation::not_a_window : Invalidation::unknown;
}

void Keys::invalidate(std::uint32_t stag) {
  RNBD_ASSERT(find_window(stag) != nullptr);
  const std::uint32_t slot = domain_.permutation().slot_of(stag >> 8);
  windows_[(slot - kFirstWindowSlot) & (stride_ - 1)].exposed = false;
}

}  // namespace rnbd::fabric::iwarp
