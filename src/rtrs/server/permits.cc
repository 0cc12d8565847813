#include "rtrs/server/permits.h"

#include <algorithm>

#include "base/assert.h"
#include "base/mutation.h"

namespace rnbd::rtrs::server {

Permits::Outcome Permits::collide(std::uint32_t permit, AcceptGate& path, PermitWaiter& waiter) {
  const std::lock_guard lock(mutex_);
  if (!path.open()) return Outcome::given_up;
  std::atomic<std::uintptr_t>& slot = slots_[permit];
  std::uintptr_t found = slot.load(std::memory_order_acquire);
  for (;;) {
    if (found == kFree || broken(Rule::r4)) {
      if (!slot.compare_exchange_weak(found, id_of(path), std::memory_order_acq_rel,
                                      std::memory_order_acquire))
        continue;
      return Outcome::taken;
    }
    if ((found & ~kAwaited) == id_of(path)) return Outcome::busy;
    // From here on its owner cannot give it up without the lock, so the owner stays.
    if (slot.compare_exchange_weak(found, found | kAwaited, std::memory_order_acq_rel,
                                   std::memory_order_acquire))
      break;
  }
  auto& queue = waiting_[permit];
  const auto ours = [&](const Waiting& entry) { return entry.path == &path; };
  if (std::ranges::any_of(queue, ours)) return Outcome::busy;
  // Whoever had the permit before is given up: the one that has it and those that still wait.
  reinterpret_cast<AcceptGate*>(found & ~kAwaited)->shut_now();
  for (const Waiting& entry : queue) entry.path->shut_now();
  queue.push_back({&path, &waiter});
  return Outcome::waits;
}

void Permits::hand_on(std::uint32_t permit, AcceptGate& path) {
  const std::lock_guard lock(mutex_);
  std::atomic<std::uintptr_t>& slot = slots_[permit];
  if (broken(Rule::r4) && (slot.load() & ~kAwaited) != id_of(path)) return;
  RNBD_ASSERT((slot.load(std::memory_order_acquire) & ~kAwaited) == id_of(path));
  const auto found = waiting_.find(permit);
  if (found == waiting_.end()) {  // they have all taken it back
    slot.store(kFree, std::memory_order_release);
    return;
  }
  auto& queue = found->second;
  const Waiting next = queue.front();
  queue.pop_front();
  const bool more = !queue.empty();
  if (!more) waiting_.erase(found);
  slot.store(id_of(*next.path) | (more ? kAwaited : 0), std::memory_order_release);
  // Still under the lock: the one that is told cannot take it back meanwhile and go.
  next.waiter->on_permit_granted(permit);
}

bool Permits::take_back(std::uint32_t permit, AcceptGate& path) {
  const std::lock_guard lock(mutex_);
  const auto found = waiting_.find(permit);
  if (found == waiting_.end()) return false;
  auto& queue = found->second;
  const auto entry =
      std::ranges::find_if(queue, [&](const Waiting& each) { return each.path == &path; });
  if (entry == queue.end()) return false;
  queue.erase(entry);
  if (queue.empty()) waiting_.erase(found);
  return true;
}

}  // namespace rnbd::rtrs::server
