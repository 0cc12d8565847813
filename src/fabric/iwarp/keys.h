#pragma once
// The keys a peer may use on one connection: the memories of its domain, and this connection's own
// windows. Lives on the connection's loop.

#include <vector>

#include "fabric/iwarp/cursor.h"
#include "fabric/iwarp/domain.h"

namespace rnbd::fabric::iwarp {

enum class KeyFault : std::uint8_t {
  none,
  stag,    // names nothing, or something no longer there
  access,  // no right to write, or the gate is shut
  wrap,    // offset and length together pass 2^64
  bounds,  // not within what the key names
};

class Keys {
 public:
  Keys(const IwarpDomain& domain, Random& random, std::uint32_t windows);

  // EINVAL for a range too long to describe, EBUSY when exposed already.
  Result<RemoteSpan> expose(std::uint32_t window, std::span<const iovec> local);
  void hide(std::uint32_t window);
  void forget(std::uint32_t window);  // an exposed one

  // Whether the peer may write `n` > 0 bytes at `offset` now; if so `target` is set there.
  KeyFault resolve(std::uint32_t stag, std::uint64_t offset, std::uint64_t n, Cursor& target) const;

  // Notes that the peer wrote there, as resolve() had allowed.
  void wrote(std::uint32_t stag, std::uint64_t offset, std::uint64_t n);
  // Whether the peer has written all of an exposed window, from its beginning on.
  bool filled(std::uint32_t window) const;

  enum class Invalidation : std::uint8_t { allowed, unknown, not_a_window };
  Invalidation may_invalidate(std::uint32_t stag) const;
  void invalidate(std::uint32_t stag);  // of an exposed window

 private:
  // A window uses the slots window + k * stride_ in turn, for k = epoch >> 8, with the key epoch &
  // 255: it is long until an STag comes back.
  struct Window {
    bool exposed = false;
    std::uint32_t epoch = 0;
    std::uint64_t base = 0;
    std::uint64_t length = 0;
    std::uint64_t filled = 0;  // bytes written without a gap from the beginning
    std::vector<iovec> parts;
  };
  std::uint32_t stag_of(std::uint32_t window) const;
  const Window* find_window(std::uint32_t stag) const;

  const IwarpDomain& domain_;
  Random& random_;
  std::vector<Window> windows_;
  std::vector<std::byte> waste_;  // where bytes for forgotten windows go
  std::uint32_t stride_;          // power of two, at least the number of windows
};

}  // namespace rnbd::fabric::iwarp
