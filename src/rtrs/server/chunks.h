#pragma once
// The chunk memory of one path: registered, populated when first touched, and for each chunk who
// owns it. A chunk is the client's until its request is accepted and again from just before the
// answer is posted; a request for a chunk that is still ours breaks the protocol. The loops of all
// connections use it at once.

#include <atomic>
#include <memory>
#include <span>

#include "fabric/fabric.h"

namespace rnbd::rtrs::server {

class Chunks {
 public:
  static Result<std::unique_ptr<Chunks>> create(fabric::Domain& domain, std::uint32_t count,
                                                std::uint32_t chunk_size);

  std::uint32_t count() const { return count_; }
  std::uint32_t chunk_size() const { return chunk_size_; }
  std::span<std::byte> bytes(std::uint32_t chunk) const {
    return memory_->bytes().subspan(std::size_t{chunk} * chunk_size_, chunk_size_);
  }
  fabric::RemoteSpan remote() const {
    return memory_->remote(0, std::size_t{count_} * chunk_size_);
  }

  // Takes a chunk for a request and keeps the peer from writing to it; false: it is taken already.
  bool acquire(std::uint32_t chunk) {
    if (busy_[chunk].exchange(true, std::memory_order_acquire)) return false;
    memory_->set_gate(chunk, false);
    return true;
  }
  void release(std::uint32_t chunk) {
    memory_->set_gate(chunk, true);
    busy_[chunk].store(false, std::memory_order_release);
  }

 private:
  Chunks(std::unique_ptr<fabric::Memory> memory, std::uint32_t count, std::uint32_t chunk_size);

  std::unique_ptr<fabric::Memory> memory_;
  const std::uint32_t count_;
  const std::uint32_t chunk_size_;
  std::unique_ptr<std::atomic<bool>[]> busy_;
};

}  // namespace rnbd::rtrs::server
