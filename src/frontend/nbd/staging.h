#pragma once
// Bytes received and not yet looked at: one buffer of fixed size, filled at the end, consumed at
// the front.

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

#include "base/assert.h"
#include "wire/bytes.h"

namespace rnbd::nbd {

class Staging {
 public:
  explicit Staging(std::size_t capacity) : memory_(new std::byte[capacity]), capacity_(capacity) {}

  wire::ByteView view() const { return {memory_.get() + begin_, end_ - begin_}; }
  bool empty() const { return begin_ == end_; }
  void consume(std::size_t count) {
    RNBD_ASSERT(count <= end_ - begin_);
    begin_ += count;
    if (begin_ == end_) begin_ = end_ = 0;
  }
  // Room for more, behind what is there; moves that to the front first.
  std::span<std::byte> room() {
    if (begin_ > 0) {
      std::memmove(memory_.get(), memory_.get() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    return {memory_.get() + end_, capacity_ - end_};
  }
  void filled(std::size_t count) {
    RNBD_ASSERT(count <= capacity_ - end_);
    end_ += count;
  }
  void append(wire::ByteView bytes) {
    const auto space = room();
    RNBD_ASSERT(bytes.size() <= space.size());
    if (bytes.empty()) return;
    std::memcpy(space.data(), bytes.data(), bytes.size());
    filled(bytes.size());
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace rnbd::nbd
