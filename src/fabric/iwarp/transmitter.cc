#include "fabric/iwarp/transmitter.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "wire/bytes.h"

namespace rnbd::fabric::iwarp {

using wire::RdmapOp;

namespace {

bool tagged(Work::Op op) { return op == Work::Op::write || op == Work::Op::write_imm; }

}  // namespace

Transmitter::Transmitter(const TransmitterOptions& options)
    : options_(options),
      ring_(std::max<std::uint32_t>(options.depth, 1)),
      parts_(16),
      next_sequence_(options.first_sequence),
      scratch_(std::make_unique_for_overwrite<std::byte[]>(kScratchSize)),
      pieces_(std::make_unique_for_overwrite<iovec[]>(kBatchPieces)) {
  RNBD_ASSERT(options.tagged_payload_max >= 1 && options.tagged_payload_max <= kLargePayload);
  RNBD_ASSERT(options.untagged_payload_max >= 1 && options.untagged_payload_max <= kLargePayload);
}

void Transmitter::push(const Work& work) {
  RNBD_ASSERT(fits(1));
  RNBD_ASSERT(work.op != Work::Op::send_imm);
  Item& entry = item(tail_);
  entry.op = work.op;
  entry.remote = work.remote;
  entry.immediate = work.immediate;
  entry.invalidate_key = work.invalidate_key;
  entry.cookie = work.cookie;
  entry.bytes = 0;
  if (parts_.size() - (parts_end_ - first_part_) < work.local.size()) grow_parts(work.local.size());
  entry.first_part = parts_end_;
  for (const iovec& piece : work.local) {
    if (piece.iov_len == 0) continue;
    part(parts_end_++) = piece;
    entry.bytes += piece.iov_len;
  }
  entry.parts_end = parts_end_;
  unbuilt_bytes_ += entry.bytes;
  ++tail_;
}

void Transmitter::grow_parts(std::size_t needed) {
  const std::size_t used = parts_end_ - first_part_;
  std::vector<iovec> larger(std::bit_ceil(std::max(used + needed, 2 * parts_.size())));
  for (std::uint64_t i = first_part_; i != parts_end_; ++i)
    larger[i & (larger.size() - 1)] = part(i);
  parts_ = std::move(larger);
}

std::optional<std::uint64_t> Transmitter::pop(std::uint64_t limit) {
  while (done_ != limit) {
    const std::uint64_t cookie = item(done_++).cookie;
    if (cookie != 0) return cookie;
  }
  return std::nullopt;
}

std::span<const iovec> Transmitter::gather() {
  if (next_piece_ == piece_count_ && built_ != tail_) build();
  return unfinished();
}

std::span<const iovec> Transmitter::unfinished() const {
  return {pieces_.get() + next_piece_, piece_count_ - next_piece_};
}

void Transmitter::taken(std::size_t bytes) {
  while (bytes > 0) {
    RNBD_ASSERT(next_piece_ < piece_count_);
    iovec& piece = pieces_[next_piece_];
    if (bytes < piece.iov_len) {
      piece.iov_base = static_cast<std::byte*>(piece.iov_base) + bytes;
      piece.iov_len -= bytes;
      return;
    }
    bytes -= piece.iov_len;
    ++next_piece_;
  }
  if (next_piece_ == piece_count_) taken_ = built_;
}

bool Transmitter::room(std::size_t pieces) const {
  return piece_count_ + pieces <= kBatchPieces && batch_bytes_ < kBatchBytes &&
         scratch_used_ + kScratchPerFrame <= kScratchSize;
}

bool Transmitter::has_payload_frames(const Item& entry) const {
  return entry.bytes > 0 || entry.op != Work::Op::write_imm;
}

void Transmitter::build() {
  piece_count_ = next_piece_ = 0;
  scratch_used_ = batch_bytes_ = 0;
  while (built_ != tail_) {
    Item& entry = item(built_);
    while (!payload_done_ && has_payload_frames(entry)) {
      if (!build_payload_frame(entry)) return;
    }
    if (entry.op == Work::Op::write_imm) {
      if (!room(1)) return;
      add_immediate(entry.immediate);
    }
    finish_item(entry);
  }
}

void Transmitter::finish_item(Item& entry) {
  RNBD_ASSERT(first_part_ == entry.parts_end);
  if (!tagged(entry.op) || entry.op == Work::Op::write_imm) ++next_sequence_;
  item_offset_ = 0;
  payload_done_ = false;
  ++built_;
}

// How many of the item's next bytes make a frame, at most `most`, and of how many parts they are.
std::size_t Transmitter::next_payload(const Item& entry, std::size_t most, std::size_t& pieces) {
  std::size_t bytes = 0;
  std::size_t skip = part_offset_;
  pieces = 0;
  for (std::uint64_t i = first_part_;
       i != entry.parts_end && bytes < most && pieces < kPartsPerFrame; ++i) {
    bytes += std::min<std::size_t>(part(i).iov_len - skip, most - bytes);
    skip = 0;
    ++pieces;
  }
  return bytes;
}

bool Transmitter::build_payload_frame(Item& entry) {
  const std::size_t most =
      tagged(entry.op) ? options_.tagged_payload_max : options_.untagged_payload_max;
  std::size_t pieces = 0;
  const std::size_t payload = next_payload(entry, most, pieces);
  const bool copied = payload <= kInlineMax;
  if (!room(copied ? 1 : pieces + 2)) return false;
  const bool last = item_offset_ + payload == entry.bytes;
  if (options_.crc) crc_.reset();
  add_header(entry, payload, last);
  add_payload(payload, copied);
  const std::size_t header =
      tagged(entry.op) ? wire::kTaggedHeaderUlpdu : wire::kUntaggedHeaderUlpdu;
  add_trailer(header + payload);
  item_offset_ += payload;
  unbuilt_bytes_ -= payload;
  payload_done_ = last;
  return true;
}

void Transmitter::add_header(const Item& entry, std::size_t payload, bool last) {
  const auto last_bit = last ? wire::kDdpLast : std::uint8_t{0};
  if (tagged(entry.op)) {
    wire::TaggedHeader header{};
    header.ulpdu_length = static_cast<std::uint16_t>(wire::kTaggedHeaderUlpdu + payload);
    header.ddp = static_cast<std::uint8_t>(wire::kDdpTagged | last_bit | wire::kDdpVersion);
    header.rdmap = wire::rdmap_control(RdmapOp::write);
    header.stag = entry.remote.key;
    header.offset = entry.remote.address + item_offset_;
    add_scratch(wire::bytes_of(header));
    return;
  }
  const bool invalidates = entry.op == Work::Op::send_invalidate;
  wire::UntaggedHeader header{};
  header.ulpdu_length = static_cast<std::uint16_t>(wire::kUntaggedHeaderUlpdu + payload);
  header.ddp = static_cast<std::uint8_t>(last_bit | wire::kDdpVersion);
  header.rdmap = wire::rdmap_control(invalidates ? RdmapOp::send_invalidate : RdmapOp::send);
  header.invalidate_stag = invalidates ? entry.invalidate_key : 0;
  header.queue = wire::kSendQueue;
  header.sequence = next_sequence_;
  header.message_offset = static_cast<std::uint32_t>(item_offset_);
  add_scratch(wire::bytes_of(header));
}

void Transmitter::add_payload(std::size_t bytes, bool copied) {
  while (bytes > 0) {
    const iovec& from = part(first_part_);
    const std::size_t n = std::min(bytes, from.iov_len - part_offset_);
    const std::span<const std::byte> piece(
        static_cast<const std::byte*>(from.iov_base) + part_offset_, n);
    if (copied) {
      add_scratch(piece);
    } else {
      if (options_.crc) crc_.update(piece);
      add_piece(piece);
    }
    bytes -= n;
    part_offset_ += n;
    if (part_offset_ < from.iov_len) continue;
    ++first_part_;
    part_offset_ = 0;
  }
}

void Transmitter::add_trailer(std::size_t ulpdu) {
  static constexpr std::array<std::byte, 3> kZeros{};
  add_scratch(std::span(kZeros).first(wire::fpdu_padding(ulpdu)));
  const wire::FpduCrc crc = options_.crc ? crc_.value() : 0;
  add_scratch(wire::bytes_of(crc));
}

void Transmitter::add_immediate(std::uint32_t immediate) {
  wire::UntaggedHeader header{};
  header.ulpdu_length =
      static_cast<std::uint16_t>(wire::kUntaggedHeaderUlpdu + sizeof(wire::ImmediatePayload));
  header.ddp = static_cast<std::uint8_t>(wire::kDdpLast | wire::kDdpVersion);
  header.rdmap = wire::rdmap_control(RdmapOp::immediate);
  header.queue = wire::kSendQueue;
  header.sequence = next_sequence_;
  wire::ImmediatePayload payload{};
  (options_.immediate_half == ImmediateHalf::high ? payload.high : payload.low) = immediate;
  if (options_.crc) crc_.reset();
  add_scratch(wire::bytes_of(header));
  add_scratch(wire::bytes_of(payload));
  add_trailer(header.ulpdu_length);
}

void Transmitter::add_scratch(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  RNBD_ASSERT(scratch_used_ + bytes.size() <= kScratchSize);
  std::byte* place = scratch_.get() + scratch_used_;
  std::memcpy(place, bytes.data(), bytes.size());
  scratch_used_ += bytes.size();
  if (options_.crc) crc_.update(bytes);
  add_piece({place, bytes.size()});
}

// Pieces that lie one behind the other become one.
void Transmitter::add_piece(std::span<const std::byte> bytes) {
  batch_bytes_ += bytes.size();
  auto* start = const_cast<std::byte*>(bytes.data());  // iovec knows no const; sendmsg only reads
  if (piece_count_ > 0) {
    iovec& last = pieces_[piece_count_ - 1];
    if (static_cast<std::byte*>(last.iov_base) + last.iov_len == start) {
      last.iov_len += bytes.size();
      return;
    }
  }
  RNBD_ASSERT(piece_count_ < kBatchPieces);
  pieces_[piece_count_++] = {start, bytes.size()};
}

}  // namespace rnbd::fabric::iwarp
