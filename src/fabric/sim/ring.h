#pragma once
// A queue in a circle of slots that stay constructed: an element's buffers keep their capacity when
// the slot is used again, so a queue that has reached its depth allocates nothing more.

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/assert.h"

namespace rnbd::fabric::sim {

template <class T>
class Ring {
 public:
  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }
  // The slot behind the last, with what its last user left in it.
  T& push() {
    if (size_ == slots_.size()) grow();
    return (*this)[size_++];
  }
  T& front() {
    RNBD_ASSERT(size_ > 0);
    return slots_[head_];
  }
  T& back() {
    RNBD_ASSERT(size_ > 0);
    return (*this)[size_ - 1];
  }
  T& operator[](std::size_t index) { return slots_[(head_ + index) & (slots_.size() - 1)]; }
  void pop() {
    RNBD_ASSERT(size_ > 0);
    head_ = (head_ + 1) & (slots_.size() - 1);
    --size_;
  }
  void truncate(std::size_t size) { size_ = std::min(size_, size); }
  void clear() { head_ = size_ = 0; }

 private:
  void grow() {
    std::vector<T> larger(slots_.empty() ? 8 : 2 * slots_.size());
    for (std::size_t i = 0; i < size_; ++i) larger[i] = std::move((*this)[i]);
    slots_ = std::move(larger);
    head_ = 0;
  }
  std::vector<T> slots_;  // a power of two
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

}  // namespace rnbd::fabric::sim
