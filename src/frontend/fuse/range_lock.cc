#include "frontend/fuse/range_lock.h"

namespace rnbd::fuse {
namespace {

bool conflict(const RangeLock::Holder& a, const RangeLock::Holder& b) {
  return (a.exclusive || b.exclusive) && a.begin < b.end && b.begin < a.end;
}

}  // namespace

void RangeLock::acquire(Holder& holder) {
  if (holder.exclusive) ++exclusive_;
  if (exclusive_ > 0 && (blocked(holder, held_) || blocked(holder, waiting_))) {
    waiting_.push_back(holder);
    return;
  }
  held_.push_back(holder);
  holder.granted(holder);
}

void RangeLock::release(Holder& holder) {
  holder.unlink();
  if (holder.exclusive) --exclusive_;
  waiting_.for_each([&](Holder& waiter) {
    if (blocked(waiter, held_) || blocked(waiter, waiting_, &waiter)) return;
    waiter.unlink();
    held_.push_back(waiter);
    waiter.granted(waiter);
  });
}

// By one of `by`, up to but without `until`.
bool RangeLock::blocked(const Holder& holder, IntrusiveList<Holder>& by, const Holder* until) {
  bool found = false;
  bool passed = false;
  by.for_each([&](Holder& other) {
    passed = passed || &other == until;
    if (!passed && &other != &holder) found = found || conflict(holder, other);
  });
  return found;
}

}  // namespace rnbd::fuse
