#include "fabric/iwarp/keys.h"

#include <cerrno>
#include <limits>

namespace rnbd::fabric::iwarp {
namespace {

// The range check of every registration, subtracting so that nothing can overflow.
KeyFault check_range(std::uint64_t base, std::uint64_t length, std::uint64_t offset, std::uint64_t n) {
  if (n > std::numeric_limits<std::uint64_t>::max() - offset) return KeyFault::wrap;
  if (offset < base || offset - base > length) return KeyFault::bounds;
  return n <= length - (offset - base) ? KeyFault::none : KeyFault::bounds;
}

std::uint8_t key_of(std::uint32_t stag) { return static_cast<std::uint8_t>(stag); }

}  // namespace

Keys::Keys(const IwarpDomain& domain, Random& random, std::uint32_t windows)
    : domain_(domain), random_(random), windows_(windows) {
  RNBD_ASSERT(windows < kWindowSlots);
  for (Window& window : windows_) window.key = static_cast<std::uint8_t>(random.next());
}

Result<RemoteSpan> Keys::expose(std::uint32_t window, std::span<const iovec> local) {
  RNBD_ASSERT(window < windows_.size());
  Window& w = windows_[window];
  if (w.exposed) return fail_errno(EBUSY);
  std::uint64_t length = 0;
  for (const iovec& part : local) length += part.iov_len;
  if (length > std::numeric_limits<std::uint32_t>::max()) return fail_errno(EINVAL);
  const std::uint32_t index = domain_.permutation().index_of(kFirstWindowSlot + window);
  ++w.key;
  if (index == 0 && w.key == 0) ++w.key;  // STag 0 is never valid
  w.exposed = true;
  w.base = random_base(random_);
  w.length = length;
  w.parts.assign(local.begin(), local.end());
  return RemoteSpan{.address = w.base,
                    .key = (index << 8) | w.key,
                    .length = static_cast<std::uint32_t>(length)};
}

void Keys::hide(std::uint32_t window) {
  RNBD_ASSERT(window < windows_.size());
  windows_[window].exposed = false;
}

const Keys::Window* Keys::find_window(std::uint32_t slot, std::uint8_t key) const {
  if (slot < kFirstWindowSlot || slot - kFirstWindowSlot >= windows_.size()) return nullptr;
  const Window& window = windows_[slot - kFirstWindowSlot];
  return window.exposed && window.key == key ? &window : nullptr;
}

KeyFault Keys::resolve(std::uint32_t stag, std::uint64_t offset, std::uint64_t n, Cursor& target) const {
  const std::uint32_t slot = domain_.permutation().slot_of(stag >> 8);
  if (const Window* window = find_window(slot, key_of(stag))) {
    const KeyFault fault = check_range(window->base, window->length, offset, n);
    if (fault == KeyFault::none) target = Cursor(window->parts, offset - window->base);
    return fault;
  }
  const IwarpMemory* memory = domain_.find(slot, key_of(stag));
  if (memory == nullptr) return KeyFault::stag;
  if (!memory->remote_write()) return KeyFault::access;
  const KeyFault fault = check_range(memory->base(), memory->length(), offset, n);
  if (fault != KeyFault::none) return fault;
  if (!memory->open(offset - memory->base(), n)) return KeyFault::access;
  target = Cursor(memory->parts(), offset - memory->base());
  return KeyFault::none;
}

Keys::Invalidation Keys::may_invalidate(std::uint32_t stag) const {
  const std::uint32_t slot = domain_.permutation().slot_of(stag >> 8);
  if (find_window(slot, key_of(stag)) != nullptr) return Invalidation::allowed;
  return domain_.find(slot, key_of(stag)) != nullptr ? Invalidation::not_a_window
                                                     : Invalidation::unknown;
}

void Keys::invalidate(std::uint32_t stag) {
  RNBD_ASSERT(may_invalidate(stag) == Invalidation::allowed);
  windows_[domain_.permutation().slot_of(stag >> 8) - kFirstWindowSlot].exposed = false;
}

}  // namespace rnbd::fabric::iwarp
