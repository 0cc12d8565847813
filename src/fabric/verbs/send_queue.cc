#include "fabric/verbs/send_queue.h"

#include <algorithm>

namespace rnbd::fabric::verbs {

SendQueue::SendQueue(std::uint32_t depth, std::uint32_t slots, std::uint32_t extra,
                     std::uint32_t interval)
    : depth_(depth),
      slots_(slots),
      extra_(extra),
      interval_(std::max(1U, std::min(interval, slots / 2))),
      ring_(slots + depth + extra) {
  RNBD_ASSERT(slots >= depth);
}

std::uint64_t SendQueue::push(const Item& item) {
  if (item.user) {
    RNBD_ASSERT(undone_ < depth_);
    RNBD_ASSERT(users_ < slots_);
    ++undone_;
    ++unsettled_;
    ++users_;
  } else {
    RNBD_ASSERT(own_ < extra_);
    ++own_;
  }
  RNBD_ASSERT(head_ - std::min(tail_, told_) < ring_.size());
  at(head_) = item;
  return head_++;
}

SendQueue::Item SendQueue::pop_newest() {
  RNBD_ASSERT(head_ > tail_ && head_ > settled_);
  const Item item = at(--head_);
  if (item.user) {
    --undone_;
    --unsettled_;
    --users_;
  } else {
    --own_;
  }
  return item;
}

void SendQueue::settle() {
  for (; settled_ < head_; ++settled_) {
    const Item& item = at(settled_);
    if (!item.user) continue;
    // Done early, it lets its poster post one more: that must find a slot whatever else is posted.
    const bool slot_left = users_ + (depth_ - (unsettled_ - 1)) <= slots_;
    if (settled_ >= tail_ && !(item.copied && slot_left)) return;
    --unsettled_;
  }
}

bool SendQueue::wants_signal(std::uint64_t sequence, bool last) {
  const bool wanted = ++since_signal_ >= interval_ || (last && settled_ <= sequence);
  if (wanted) force_signal(sequence);
  return wanted;
}

void SendQueue::force_signal(std::uint64_t sequence) {
  since_signal_ = 0;
  signalled_ = sequence + 1;
}

void SendQueue::tell_one() {
  if (at(told_).user) --undone_;
  ++told_;
}

std::optional<std::uint64_t> SendQueue::pop_done() {
  settle();
  while (told_ < settled_) {
    const std::uint64_t cookie = at(told_).cookie;
    tell_one();
    if (cookie != 0) return cookie;
  }
  return std::nullopt;
}

std::optional<SendQueue::Done> SendQueue::pop_any() {
  while (told_ < head_) {
    const Done done{at(told_).cookie, told_ < std::max(tail_, settled_)};
    tell_one();
    if (done.cookie != 0) return done;
  }
  return std::nullopt;
}

}  // namespace rnbd::fabric::verbs
