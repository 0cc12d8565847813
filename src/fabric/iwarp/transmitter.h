#pragma once
// The sending half of a connection as a pure machine: work items go in, lists of memory pieces for
// sendmsg(2) come out. Headers, CRCs, immediates and small payloads are written into a scratch
// area, side by side where they follow each other on the wire, so that a write with immediate is
// three pieces and a short answer one. One batch is built at a time, always of whole frames; the
// next when the last was taken wholly.

#include <sys/uio.h>

#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "fabric/fabric.h"
#include "fabric/iwarp/options.h"
#include "wire/crc32c.h"
#include "wire/ddp.h"
#include "wire/rdmap.h"

namespace rnbd::fabric::iwarp {

// 126 sectors: every frame but the last of a message stays aligned, and the RFC's limit is kept.
inline constexpr std::size_t kLargePayload = 64512;
static_assert(kLargePayload + wire::kUntaggedHeaderUlpdu <= wire::kUlpduMax);

struct TransmitterOptions {
  bool crc = true;
  ImmediateHalf immediate_half = ImmediateHalf::high;
  std::size_t tagged_payload_max = kLargePayload;  // of one frame
  std::size_t untagged_payload_max = kLargePayload;
  std::uint32_t depth = 1;  // work items
  std::uint32_t first_sequence = 1;
};

class Transmitter {
 public:
  static constexpr std::size_t kBatchBytes = 256 * 1024;  // a batch is closed when it holds so much
  static constexpr std::size_t kBatchPieces = 512;
  static constexpr std::size_t kInlineMax =
      256;  // payload of a frame that is copied rather than referenced

  explicit Transmitter(const TransmitterOptions& options);

  // False when the items do not fit beside those not done yet.
  bool fits(std::size_t items) const { return items <= ring_.size() - (tail_ - done_); }
  void push(const Work& work);
  // Enough is queued that waiting for more gains nothing.
  bool full_batch_waits() const {
    return unbuilt_bytes_ >= kBatchBytes || tail_ - built_ >= kBatchPieces;
  }
  bool idle() const { return next_piece_ == piece_count_ && built_ == tail_; }

  // What to send next; empty when there is nothing. Builds a batch if none is under way.
  std::span<const iovec> gather();
  // What is left of the batch under way, without building another.
  std::span<const iovec> unfinished() const;
  void taken(std::size_t bytes);

  // The cookie of the next item wholly taken, in order; items without one are skipped.
  std::optional<std::uint64_t> pop_done() { return pop(taken_); }
  // The same for all items, taken or not. Only when nothing will be sent any more.
  std::optional<std::uint64_t> pop_any() { return pop(tail_); }

 private:
  struct Item {
    Work::Op op = Work::Op::send;
    RemoteSpan remote;
    std::uint32_t immediate = 0;
    std::uint32_t invalidate_key = 0;
    std::uint64_t cookie = 0;
    std::uint64_t first_part = 0;  // in parts_
    std::uint64_t parts_end = 0;
    std::uint64_t bytes = 0;
  };
  static constexpr std::size_t kScratchSize = 32 * 1024;
  // Most scratch one frame needs: header, inline payload, pad, CRC, and an Immediate behind it.
  static constexpr std::size_t kScratchPerFrame = 20 + kInlineMax + 3 + 4 + 32;
  static constexpr std::size_t kPartsPerFrame = 128;

  std::optional<std::uint64_t> pop(std::uint64_t limit);
  Item& item(std::uint64_t number) { return ring_[number % ring_.size()]; }
  iovec& part(std::uint64_t number) { return parts_[number & (parts_.size() - 1)]; }
  void grow_parts(std::size_t needed);
  void build();
  bool build_payload_frame(Item& item);
  std::size_t next_payload(const Item& item, std::size_t most, std::size_t& pieces);
  void finish_item(Item& item);
  bool has_payload_frames(const Item& item) const;
  bool room(std::size_t pieces) const;
  void add_header(const Item& item, std::size_t payload, bool last);
  void add_payload(std::size_t bytes, bool copied);
  void add_trailer(std::size_t ulpdu);
  void add_immediate(std::uint32_t immediate);
  void add_scratch(std::span<const std::byte> bytes);
  void add_piece(std::span<const std::byte> bytes);

  const TransmitterOptions options_;
  std::vector<Item> ring_;
  // Items by number, rising for ever: [done_, taken_) taken, [taken_, built_) in the batch,
  // [built_, tail_) waiting; item built_ may be half built.
  std::uint64_t done_ = 0, taken_ = 0, built_ = 0, tail_ = 0;
  std::vector<iovec> parts_;  // ring of the waiting items' parts; its size is a power of two
  std::uint64_t first_part_ = 0, parts_end_ = 0;
  std::uint64_t unbuilt_bytes_ = 0;
  std::uint64_t item_offset_ = 0;  // into item built_
  std::size_t part_offset_ = 0;    // into part first_part_
  bool payload_done_ = false;      // of item built_: only its immediate is missing
  std::uint32_t next_sequence_;

  std::unique_ptr<std::byte[]> scratch_;
  std::size_t scratch_used_ = 0;
  std::unique_ptr<iovec[]> pieces_;
  std::size_t piece_count_ = 0, next_piece_ = 0;
  std::size_t batch_bytes_ = 0;
  wire::Crc32c crc_;
};

}  // namespace rnbd::fabric::iwarp
