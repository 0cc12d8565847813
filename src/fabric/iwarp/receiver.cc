#include "fabric/iwarp/receiver.h"

#include <algorithm>

#include "wire/bytes.h"

namespace rnbd::fabric::iwarp {

using wire::RdmapOp;

namespace {

bool crc_fits(std::span<const std::byte> crc_field, std::uint32_t value) {
  const auto sent = wire::load<wire::FpduCrc>(crc_field);
  return sent && *sent == value;
}

}  // namespace

Receiver::Receiver(Keys& keys, ReceiveQueue& receives, ReceiveSink& sink,
                   const ReceiverOptions& options)
    : keys_(keys),
      receives_(receives),
      sink_(sink),
      options_(options),
      staging_(std::make_unique_for_overwrite<std::byte[]>(kStagingSize)),
      next_sequence_(options.first_sequence) {}

std::span<const iovec> Receiver::prepare() {
  RNBD_ASSERT(status_ == Status::more);
  std::size_t count = 0;
  direct_room_ = 0;
  // Under a key that has died meanwhile nothing is placed: received() will find the fault.
  if (in_segment_ && remaining_ >= kDirectMin && !resolve_target(remaining_)) {
    Cursor place = target_;
    while (direct_room_ < remaining_ && count < kParts - 1) {
      const auto piece = place.piece(remaining_ - direct_room_);
      parts_[count++] = {piece.data(), piece.size()};
      place.advance(piece.size());
      direct_room_ += piece.size();
    }
  }
  staging_room_ = 0;
  if (!in_segment_ || direct_room_ == 0 || direct_room_ == remaining_) {
    staging_room_ = kStagingSize - end_;
    const std::size_t wanted = remaining_ - direct_room_ + frame_size_;
    const std::size_t missing = wanted > end_ - begin_ ? wanted - (end_ - begin_) : 0;
    if (large_frames_) staging_room_ = std::min(staging_room_, std::max(kReadAhead, missing));
    parts_[count++] = {staging_.get() + end_, staging_room_};
  }
  return {parts_.data(), count};
}

Receiver::Status Receiver::received(std::size_t bytes) {
  if (status_ != Status::more) return status_;
  RNBD_ASSERT(bytes <= direct_room_ + staging_room_);
  read_was_full_ = direct_room_ == 0 && bytes == staging_room_;
  if (in_segment_ && remaining_ > 0) {
    if (const auto fault = resolve_target(remaining_)) {
      fail(*fault, {});
      return status_;
    }
  }
  std::size_t direct = std::min(bytes, direct_room_);
  end_ += bytes - direct;
  while (direct > 0) {
    const auto piece = target_.piece(direct);
    if (crc_pending_) crc_.update(piece);
    target_.advance(piece.size());
    remaining_ -= piece.size();
    direct -= piece.size();
  }
  direct_room_ = staging_room_ = 0;
  return parse();
}

Receiver::Status Receiver::resume() {
  if (status_ != Status::blocked) return status_;
  status_ = Status::more;
  return parse();
}

Receiver::Status Receiver::give_up_waiting() {
  if (status_ != Status::blocked) return status_;
  fail({wire::terminate::kUntaggedNoBuffer, Errc::receive_queue_empty}, staged());
  return status_;
}

void Receiver::stop() {
  if (status_ == Status::more || status_ == Status::blocked) status_ = Status::stopped;
}

std::size_t Receiver::feed(std::span<const std::byte> bytes) {
  std::size_t taken = 0;
  while (status_ == Status::more && taken < bytes.size()) {
    std::size_t n = 0;
    for (const iovec& part : prepare()) {
      const std::size_t piece = std::min(part.iov_len, bytes.size() - taken - n);
      if (piece > 0) std::memcpy(part.iov_base, bytes.data() + taken + n, piece);
      n += piece;
    }
    taken += n;
    received(n);
  }
  return taken;
}

std::span<const std::byte> Receiver::terminate_payload() const {
  return {terminate_.data(), terminate_size_};
}

Receiver::Status Receiver::parse() {
  bool met_large = false;
  while (status_ == Status::more) {
    const Step step = in_segment_ ? continue_segment() : start_frame();
    met_large = met_large || (in_segment_ && segment_.payload > kWholeFrameMax);
    if (step == Step::wait) break;
  }
  // Read sparingly while large payloads come, so that they can be received in place; freely again
  // as soon as a full read held none.
  if (met_large) large_frames_ = true;
  if (!met_large && !in_segment_ && read_was_full_) large_frames_ = false;
  if (status_ == Status::more) make_room();
  return status_;
}

void Receiver::make_room() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    return;
  }
  const bool frame_fits = kStagingSize - begin_ >= frame_size_;
  if (begin_ == 0 || (frame_fits && kStagingSize - end_ >= kStagingSize / 2)) return;
  std::memmove(staging_.get(), staging_.get() + begin_, end_ - begin_);
  end_ -= begin_;
  begin_ = 0;
}

Receiver::Step Receiver::fail(const Fault& fault, std::span<const std::byte> frame) {
  status_ = Status::fault;
  fault_ = fault;
  const auto start = wire::load<FrameStart>(frame);
  if (!start) return Step::wait;
  culprit_length_ = start->ulpdu_length;
  if (check_length(*start) || frame.size() < start->header_size()) return Step::wait;
  culprit_size_ = start->header_size() - wire::kFpduLengthSize;
  std::memcpy(culprit_.data(), frame.data() + wire::kFpduLengthSize, culprit_size_);
  return Step::wait;
}

Receiver::Step Receiver::start_frame() {
  frame_size_ = 0;
  std::span<const std::byte> frame = staged();
  const auto start = wire::load<FrameStart>(frame);
  if (!start) return Step::wait;
  if (const auto fault = check_length(*start)) return fail(*fault, frame);
  frame_size_ = start->frame_size();
  const bool whole = frame.size() >= frame_size_;
  const bool collect = frame_size_ <= kWholeFrameMax || (options_.crc && options_.verify_first);
  if (options_.crc) {
    if (!whole && collect) return Step::wait;
    const std::size_t covered = frame_size_ - wire::kFpduCrcSize;
    if (whole && !crc_fits(frame.subspan(covered), wire::crc32c(frame.first(covered)))) {
      return fail({wire::terminate::kMpaCrc, Errc::crc_mismatch}, frame);
    }
  }
  if (const auto fault = check_control(*start)) return fail(*fault, frame);
  if (frame.size() < start->header_size()) return Step::wait;
  segment_ = parse_segment(*start, frame);
  if (const auto fault = check(segment_)) return fail(*fault, frame);
  if (!whole && collect) return Step::wait;
  if (needs_receive(segment_) && receives_.empty()) {
    status_ = Status::blocked;
    return Step::wait;
  }
  return open_segment(frame.first(start->header_size()), whole);
}

Receiver::Step Receiver::open_segment(std::span<const std::byte> header, bool whole) {
  if (!segment_.tagged && segment_.op != RdmapOp::terminate && !segment_.immediate()) {
    const auto buffer = receives_.front().buffer;
    own_target_ = {buffer.data(), buffer.size()};
    target_ = Cursor({&own_target_, 1}, segment_.offset);
  } else if (segment_.immediate()) {
    own_target_ = {immediate_.data(), immediate_.size()};
    target_ = Cursor({&own_target_, 1}, 0);
  } else if (segment_.op == RdmapOp::terminate) {
    own_target_ = {terminate_.data(), terminate_.size()};
    target_ = Cursor({&own_target_, 1}, 0);
  }
  in_segment_ = true;
  remaining_ = segment_.payload;
  crc_pending_ = options_.crc && !whole;
  if (crc_pending_) {
    crc_.reset();
    crc_.update(header);
  }
  consume(header.size());
  frame_size_ = segment_.padding + wire::kFpduCrcSize;
  return Step::go_on;
}

std::optional<Fault> Receiver::resolve_target(std::size_t n) {
  if (!segment_.tagged) return std::nullopt;
  switch (keys_.resolve(segment_.stag, segment_.offset + (segment_.payload - n), n, target_)) {
    case KeyFault::none:
      return std::nullopt;
    case KeyFault::stag:
    case KeyFault::access:
      return Fault{wire::terminate::kTaggedStag, Errc::remote_access};
    case KeyFault::wrap:
      return Fault{wire::terminate::kTaggedWrap, Errc::remote_access};
    case KeyFault::bounds:
      return Fault{wire::terminate::kTaggedBounds, Errc::remote_access};
  }
  return Fault{wire::terminate::kLocalCatastrophe, Errc::remote_access};
}

Receiver::Step Receiver::continue_segment() {
  if (remaining_ > 0) {
    const auto piece = staged().first(std::min(remaining_, end_ - begin_));
    if (piece.empty()) {
      begin_ = end_ = 0;
      return Step::wait;
    }
    if (crc_pending_) crc_.update(piece);
    target_.write(piece);
    remaining_ -= piece.size();
    consume(piece.size());
    if (remaining_ > 0) return Step::go_on;
  }
  const std::size_t trailer = frame_size_;
  if (end_ - begin_ < trailer) return Step::wait;
  if (crc_pending_) {
    crc_.update(staged().first(segment_.padding));
    if (!crc_fits(staged().subspan(segment_.padding), crc_.value())) {
      return fail({wire::terminate::kMpaCrc, Errc::crc_mismatch}, {});
    }
  }
  consume(trailer);
  in_segment_ = false;
  return finish_segment();
}

}  // namespace rnbd::fabric::iwarp
