#pragma once
// The memory a connection lends to its peer, window by window: slices of registered memory the peer
// writes to, copied to where the bytes belong when the window is hidden. So a late write of the
// peer never reaches the application's memory. With type-2 memory windows each exposure has, in
// addition, a key of its own, bound and invalidated by work requests on the queue pair.

#include <infiniband/verbs.h>

#include <memory>
#include <vector>

#include "base/random.h"
#include "fabric/fabric.h"
#include "fabric/verbs/arena.h"

namespace rnbd::fabric::verbs {

class WindowTable {
 public:
  struct Window {
    bool exposed = false;
    Slice slice{};
    std::uint32_t length = 0;
    std::uint64_t mark = 0;    // put into the last bytes: still there, the peer did not write them
    std::uint64_t below = 0;   // what it covers
    ibv_mw* handle = nullptr;  // with type-2 windows
    std::uint32_t key = 0;
    std::uint64_t bound_by = 0;  // the work request that bound it last, and one
    std::vector<iovec> parts;
  };

  // `type2`: the domain to allocate windows of, or null.
  WindowTable(BlockSource& source, const ArenaOptions& options, std::uint32_t windows,
              ibv_pd* type2);
  ~WindowTable();
  WindowTable(const WindowTable&) = delete;
  WindowTable& operator=(const WindowTable&) = delete;

  // Sets the window up, all but binding it. EBUSY if exposed, EINVAL beyond what a key can name.
  Result<Window*> open(std::uint32_t window, std::span<const iovec> local);
  RemoteSpan remote_of(const Window& window) const;
  // Whether the peer has written it to its end. True where it is too short to tell.
  bool filled(std::uint32_t window) const;
  // Copies the bytes to where they belong and forgets the exposure; where the peer wrote nothing
  // they are those of an earlier one, to the same peer. The slice is the caller's to give back, at
  // once or when the window's key is dead.
  Slice close(Window& window);
  // The work request that makes the window's key valid.
  void fill_bind(const Window& window, ibv_send_wr& request) const;
  std::uint64_t bound_by(std::uint32_t window) const {
    return window < windows_.size() ? windows_[window].bound_by : 0;
  }
  std::uint32_t exposed() const { return exposed_; }
  Window* find(std::uint32_t window);
  Window* find_key(std::uint32_t key);  // an exposed one
  void give_back(const Slice& slice) { arena_.give_back(slice); }
  bool type2() const { return type2_ != nullptr; }
  bool trim() { return arena_.trim(); }
  bool empty() const { return arena_.empty(); }
  // At the end, when the queue pair takes no more messages: unbinds all. Before it is destroyed.
  void unbind();
  void clear();  // when it is destroyed

 private:
  static constexpr std::uint32_t kMarked = 16;  // shorter ones carry no mark
  static std::uint32_t next_key(Window& window);
  std::byte* mark_at(const Window& window) const;

  Arena arena_;
  ibv_pd* type2_;
  SeededRandom random_;
  std::vector<Window> windows_;
  std::uint32_t exposed_ = 0;
};

}  // namespace rnbd::fabric::verbs
