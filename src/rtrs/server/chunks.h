#pragma once
// The chunk memory of one path: registered, populated when first touched. A chunk is the client's
// to write until its request is accepted and again from just before the answer is posted: who has
// it in between is for the session's Permits to say. The loops of all connections use it at once.

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

  fabric::Memory& memory() { return *memory_; }

  // Whether the client may write there.
  void set_gate(std::uint32_t chunk, bool open) { memory_->set_gate(chunk, open); }

 private:
  Chunks(std::unique_ptr<fabric::Memory> memory, std::uint32_t count, std::uint32_t chunk_size);

  std::unique_ptr<fabric::Memory> memory_;
  const std::uint32_t count_;
  const std::uint32_t chunk_size_;
};

}  // namespace rnbd::rtrs::server
