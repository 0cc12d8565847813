#pragma once
// A protection domain and the memory registered in it. Registering and destroying happen on one
// thread while no connection uses the domain; looking keys up, and gates, are for the threads of
// all its connections.
//
// STag = index << 8 | key. The index names a slot, scattered over its 24 bits by a permutation of
// this domain; the key changes with every registration of a slot, and each gets a random range of
// offsets (RFC 5042 6.1.1).

#include <atomic>
#include <memory>
#include <vector>

#include "base/random.h"
#include "fabric/fabric.h"
#include "wire/mpa.h"

namespace rnbd::fabric::iwarp {

// slot -> slot * odd + shift in the 24 bits of an STag's index.
class IndexPermutation {
 public:
  explicit IndexPermutation(Random& random);
  std::uint32_t index_of(std::uint32_t slot) const { return (slot * factor_ + shift_) & kMask; }
  std::uint32_t slot_of(std::uint32_t index) const { return ((index - shift_) * inverse_) & kMask; }

  static constexpr std::uint32_t kMask = 0xffffff;

 private:
  std::uint32_t factor_;   // odd
  std::uint32_t inverse_;  // factor_ * inverse_ = 1
  std::uint32_t shift_;
};

// Slots below are memories of a domain; from here on they are windows of one connection.
inline constexpr std::uint32_t kFirstWindowSlot = 1U << 23;
inline constexpr std::uint32_t kWindowSlots = 1U << 23;

// Page-aligned start of a range of offsets: neither it nor its end, for any length that can exist,
// passes 2^63.
std::uint64_t random_base(Random& random);

inline constexpr Capabilities kCapabilities{.name = "iwarp",
                                            .send_imm = false,
                                            .remote_invalidate = true,
                                            .send_invalidate = true,
                                            .max_private_data = wire::kMpaUserDataMax};

class IwarpMemory;

class IwarpDomain final : public Domain {
 public:
  explicit IwarpDomain(Random& random) : permutation_(random) {}
  ~IwarpDomain() override;
  const Capabilities& capabilities() const override { return kCapabilities; }
  Result<std::unique_ptr<Memory>> register_memory(const MemoryOptions& options) override;

  const IndexPermutation& permutation() const { return permutation_; }
  // The memory in `slot` when it is there and `key` is its key.
  const IwarpMemory* find(std::uint32_t slot, std::uint8_t key) const;
  void remove(const IwarpMemory& memory);

 private:
  struct Slot {
    IwarpMemory* memory = nullptr;
    std::uint8_t key = 0;  // of the next registration, once the memory is gone
  };
  std::uint32_t take_slot();
  IndexPermutation permutation_;
  SystemRandom random_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;  // oldest first, so that reuse is slow
};

// Mapped, with an inaccessible page on either side, absent from core dumps and from child
// processes.
class IwarpMemory final : public Memory {
 public:
  IwarpMemory(IwarpDomain& domain, std::uint32_t slot, std::uint32_t stag, std::uint64_t base,
              const MemoryOptions& options);
  ~IwarpMemory() override;
  std::error_code map();

  std::span<std::byte> bytes() override { return bytes_; }
  RemoteSpan remote(std::size_t offset, std::size_t length) const override;
  void set_gate(std::size_t chunk, bool open) override;

  std::uint32_t slot() const { return slot_; }
  std::uint64_t base() const { return base_; }
  bool remote_write() const { return access_ == Access::remote_write; }
  std::size_t length() const { return size_; }
  std::span<const iovec> parts() const { return {&whole_, 1}; }
  // All gates of [offset, offset + n) are open; the range is within the memory and n is not 0.
  bool open(std::size_t offset, std::size_t n) const;

 private:
  IwarpDomain& domain_;
  std::uint32_t slot_;
  std::uint32_t stag_;
  std::uint64_t base_;
  std::size_t size_;
  std::size_t chunk_size_;
  Access access_;
  std::span<std::byte> bytes_;
  std::span<std::byte> mapping_;  // with the guard pages
  iovec whole_{};
  std::unique_ptr<std::atomic<bool>[]> shut_;  // one per chunk
};

}  // namespace rnbd::fabric::iwarp
