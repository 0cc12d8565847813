#pragma once
// Aligned memory for direct I/O from memory that is not: a few buffers, made when first needed. One
// thread.

#include <cstddef>
#include <memory>
#include <vector>

#include "block/request.h"

namespace rnbd::backend {

class BouncePool {
 public:
  static constexpr std::size_t kBytes = 256 * 1024;
  static constexpr std::size_t kBuffers = 16;

  BouncePool();
  bool available() const { return !free_.empty() || all_.size() < kBuffers; }
  std::byte* acquire();  // null when there is none (or no memory)
  void release(std::byte* buffer) { free_.push_back(buffer); }

 private:
  struct Unmap {
    void operator()(std::byte* memory) const;
  };
  std::vector<std::unique_ptr<std::byte, Unmap>> all_;
  std::vector<std::byte*> free_;
};

// Copies between a request's segments, from byte `position` of the request on, and flat memory.
void gather(const block::Request& request, std::size_t position, std::byte* to, std::size_t length);
void scatter(const std::byte* from, const block::Request& request, std::size_t position,
             std::size_t length);

}  // namespace rnbd::backend
