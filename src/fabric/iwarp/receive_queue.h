#pragma once
// The posted receives of a connection, used up in order. A ring of fixed size.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/assert.h"

namespace rnbd::fabric::iwarp {

struct PostedReceive {
  std::span<std::byte> buffer;
  std::uint64_t cookie = 0;
};

class ReceiveQueue {
 public:
  explicit ReceiveQueue(std::uint32_t depth) : ring_(depth) {}
  bool empty() const { return count_ == 0; }
  bool full() const { return count_ == ring_.size(); }
  const PostedReceive& front() const {
    RNBD_ASSERT(!empty());
    return ring_[first_];
  }
  void push(const PostedReceive& receive) {
    RNBD_ASSERT(!full());
    const std::size_t at = first_ + count_;
    ring_[at < ring_.size() ? at : at - ring_.size()] = receive;
    ++count_;
  }
  PostedReceive pop() {
    const PostedReceive receive = front();
    if (++first_ == ring_.size()) first_ = 0;
    --count_;
    return receive;
  }

 private:
  std::vector<PostedReceive> ring_;
  std::size_t first_ = 0;
  std::size_t count_ = 0;
};

}  // namespace rnbd::fabric::iwarp
