#include "block/split_request.h"

#include <algorithm>
#include <limits>

namespace rnbd::block {
namespace {

// Most bytes of one piece: what the device announces, in whole blocks. An operation it does not
// support goes out unsplit and comes back with the device's own error.
std::uint64_t piece_max(Op op, const Limits& limits) {
  std::uint64_t most = 0;
  switch (op) {
    case Op::read:
    case Op::write:
      most = limits.max_transfer;
      break;
    case Op::discard:
      most = limits.max_discard;
      break;
    case Op::secure_erase:
      most = limits.max_secure_erase;
      break;
    case Op::write_zeroes:
      most = limits.max_write_zeroes;
      break;
    case Op::flush:
      break;
  }
  if (most == 0) return std::numeric_limits<std::uint64_t>::max();
  const std::uint64_t block = limits.logical_block_size;
  return std::max(most - most % block, block);
}

bool takes_fua(Op op) { return op == Op::write || op == Op::write_zeroes; }

}  // namespace

void SplitRequest::start(Queue& queue, const Limits& limits, const What& what, Done done) {
  RNBD_ASSERT(outstanding_ == 0);
  RNBD_ASSERT(what.length > 0 || what.op == Op::flush);
  queue_ = &queue;
  what_ = what;
  done_ = done;
  result_ = {};
  started_ = 0;
  piece_max_ = piece_max(what.op, limits);
  flush_after_ = false;
  if ((what.flags & kFua) != 0 && !(limits.fua && takes_fua(what.op))) {
    what_.flags = static_cast<std::uint8_t>(what.flags & ~kFua);
    flush_after_ = limits.volatile_cache && what.op != Op::flush;
  }
  if (what_.op == Op::flush) return submit_flush(pieces_[0]);
  for (Piece& piece : pieces_) {
    if (started_ == what_.length) break;
    submit_next(piece);
  }
}

void SplitRequest::submit_next(Piece& piece) {
  const std::uint64_t length = std::min(piece_max_, what_.length - started_);
  piece.owner = this;
  piece.op = what_.op;
  piece.flags = what_.flags;
  piece.offset = what_.offset + started_;
  piece.length = length;
  if (carries_data(what_.op)) {
    piece.data = {what_.data + started_, length};
    piece.segments = {&piece.data, 1};
  } else {
    piece.segments = {};
  }
  piece.done = &SplitRequest::on_done;
  piece.result = {};
  started_ += length;
  ++outstanding_;
  queue_->submit(piece);
}

void SplitRequest::submit_flush(Piece& piece) {
  flush_after_ = false;
  piece.owner = this;
  piece.op = Op::flush;
  piece.flags = kNoFlags;
  piece.offset = piece.length = 0;
  piece.segments = {};
  piece.done = &SplitRequest::on_done;
  piece.result = {};
  started_ = what_.length;
  ++outstanding_;
  queue_->submit(piece);
}

void SplitRequest::on_done(Request& request) {
  auto& piece = static_cast<Piece&>(request);
  piece.owner->piece_done(piece);
}

void SplitRequest::piece_done(Piece& piece) {
  RNBD_ASSERT(outstanding_ > 0);
  --outstanding_;
  if (piece.result && !result_) result_ = piece.result;
  if (!result_ && started_ < what_.length) return submit_next(piece);
  if (outstanding_ > 0) return;
  if (!result_ && flush_after_) return submit_flush(piece);
  done_(*this);
}

}  // namespace rnbd::block
