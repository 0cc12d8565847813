#pragma once
// Keeps read-modify-write apart from other writes to the same blocks. Whole-block writes share: the
// device orders them as it likes. A write that reads first is alone on its blocks, and nobody
// overtakes who waits. No thread, no allocation: holders are embedded in the requests.

#include <cstdint>

#include "base/intrusive_list.h"

namespace rnbd::fuse {

class RangeLock {
 public:
  struct Holder : ListNode {
    std::uint64_t begin = 0;  // of the range, whole blocks
    std::uint64_t end = 0;
    bool exclusive = false;
    // Called once, from inside acquire() or another's release(); calls neither of them itself.
    void (*granted)(Holder& holder) = nullptr;
  };

  void acquire(Holder& holder);
  void release(Holder& holder);
  bool idle() const { return held_.empty() && waiting_.empty(); }

 private:
  bool blocked(const Holder& holder, IntrusiveList<Holder>& by, const Holder* until = nullptr);

  IntrusiveList<Holder> held_;
  IntrusiveList<Holder> waiting_;  // in order of arrival
  std::uint32_t exclusive_ = 0;    // held or waiting; while 0, nobody ever waits
};

}  // namespace rnbd::fuse
