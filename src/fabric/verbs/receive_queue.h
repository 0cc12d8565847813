#pragma once
// The posted receives of a connection, used up in order. Pure; one thread.

#include <cstdint>
#include <span>
#include <vector>

#include "base/assert.h"
#include "fabric/verbs/arena.h"

namespace rnbd::fabric::verbs {

class ReceiveQueue {
 public:
  struct Item {
    std::span<std::byte> buffer{};
    std::uint64_t cookie = 0;
    Slice slice{};  // where the bytes arrive, if not in the buffer itself
  };
  explicit ReceiveQueue(std::uint32_t depth) : ring_(depth) {}

  bool full() const { return head_ - tail_ == ring_.size(); }
  bool empty() const { return head_ == tail_; }
  std::uint64_t push(const Item& item) {
    RNBD_ASSERT(!full());
    ring_[head_ % ring_.size()] = item;
    return head_++;
  }
  void pop_newest() {
    RNBD_ASSERT(!empty());
    --head_;
  }
  // The sequence number of the oldest; the only one that may complete.
  std::uint64_t front_sequence() const { return tail_; }
  Item pop() {
    RNBD_ASSERT(!empty());
    return ring_[tail_++ % ring_.size()];
  }

 private:
  std::vector<Item> ring_;
  std::uint64_t head_ = 0, tail_ = 0;
};

}  // namespace rnbd::fabric::verbs
