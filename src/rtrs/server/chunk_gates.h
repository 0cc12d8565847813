#pragma once
// Whose a chunk is, on fabrics whose gates have keys (fabric::Capabilities::keyed_gates): the
// client's, ours, or on its way back to it. Opening takes time, and the client may use the key it
// was sent before we have heard that the opening is done: such a request waits for that, for a gate
// must not be shut before. On any connection of the path; any thread.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

namespace rnbd::rtrs::server {

class ChunkGates {
 public:
  enum class Taken : std::uint8_t {
    now,    // the chunk is ours: shut its gate
    later,  // it will be when its opening is done: opened() says so
    no,     // it is not the client's: the protocol is broken
  };
  struct Waiting {
    std::uint16_t cid;
    std::uint32_t immediate;
  };

  // All ours.
  explicit ChunkGates(std::uint32_t count)
      : slots_(std::make_unique<std::atomic<std::uint64_t>[]>(count)) {
    for (std::uint32_t chunk = 0; chunk < count; ++chunk) slots_[chunk].store(kOurs);
  }

  // A request for the chunk came on connection `cid`.
  Taken take(std::uint32_t chunk, std::uint16_t cid, std::uint32_t immediate) {
    std::uint64_t found = kClients;
    if (slots_[chunk].compare_exchange_strong(found, kOurs)) return Taken::now;
    while (found == kOpening) {
      const std::uint64_t awaited =
          kAwaited | std::uint64_t{cid} << kCidShift | std::uint64_t{immediate} << kImmediateShift;
      if (slots_[chunk].compare_exchange_weak(found, awaited)) return Taken::later;
    }
    if (found == kClients && slots_[chunk].compare_exchange_strong(found, kOurs)) return Taken::now;
    return Taken::no;
  }
  // Before the gate of a chunk of ours is opened.
  void opening(std::uint32_t chunk) { slots_[chunk].store(kOpening); }
  // Its opening is done, or came to nothing: it is the client's, or that request's which waits for
  // it.
  std::optional<Waiting> opened(std::uint32_t chunk) {
    std::uint64_t found = kOpening;
    if (slots_[chunk].compare_exchange_strong(found, kClients)) return std::nullopt;
    slots_[chunk].store(kOurs);
    return Waiting{static_cast<std::uint16_t>(found >> kCidShift & 0xffff),
                   static_cast<std::uint32_t>(found >> kImmediateShift)};
  }

 private:
  static constexpr std::uint64_t kClients = 0, kOurs = 1, kOpening = 2, kAwaited = 3;
  static constexpr unsigned kCidShift = 8, kImmediateShift = 32;
  const std::unique_ptr<std::atomic<std::uint64_t>[]> slots_;
};

}  // namespace rnbd::rtrs::server
