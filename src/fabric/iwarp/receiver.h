#pragma once
// The receiving half of a connection as a pure machine: bytes of the stream go in, placed memory
// and events come out. It knows no socket; whoever has one reads into prepare() and reports with
// received(). Every check of RFC 5041 section 7.1 and RFC 5040 section 7 happens here, before a
// byte has an effect.
//
// Small frames are collected whole in a staging buffer. Of large ones the header is checked first,
// then the payload goes straight from the socket to its place, and what follows it into staging by
// the same call. With CRC on, frames of up to kWholeFrameMax are verified before any effect, larger
// ones before delivery; `verify_first` holds back the large ones, too.

#include <sys/uio.h>

#include <array>
#include <memory>

#include "fabric/fabric.h"
#include "fabric/iwarp/keys.h"
#include "fabric/iwarp/options.h"
#include "fabric/iwarp/receive_queue.h"
#include "fabric/iwarp/segment.h"
#include "wire/crc32c.h"

namespace rnbd::fabric::iwarp {

struct ReceiverOptions {
  bool crc = true;
  bool verify_first = false;
  ImmediateHalf immediate_half = ImmediateHalf::high;
  std::uint32_t first_sequence = 1;
};

class ReceiveSink {
 public:
  virtual ~ReceiveSink() = default;
  // May call Receiver::stop(), may not destroy it. What `event` points to is the poster's from now
  // on.
  virtual void on_receive(const ReceiveEvent& event) = 0;
};

class Receiver {
 public:
  enum class Status : std::uint8_t {
    more,        // wants bytes
    blocked,     // a message needs a receive and none is posted: resume() later
    fault,       // see fault(): nothing more is placed or delivered
    terminated,  // the peer sent a Terminate: see terminate_payload()
    stopped,     // by stop()
  };
  static constexpr std::size_t kStagingSize = 72 * 1024;  // more than the largest frame
  static constexpr std::size_t kWholeFrameMax =
      16 * 1024;  // frames up to here are always collected
  static constexpr std::size_t kDirectMin =
      8 * 1024;  // payload still to come that is worth a detour
  static constexpr std::size_t kReadAhead = 4 * 1024;  // staging read while large frames come in

  Receiver(Keys& keys, ReceiveQueue& receives, ReceiveSink& sink, const ReceiverOptions& options);

  // Where the next bytes of the stream go; only while status() is `more`, and never empty then.
  std::span<const iovec> prepare();
  // So many bytes were put into what prepare() named just before.
  Status received(std::size_t bytes);
  Status resume();           // after a receive was posted
  Status give_up_waiting();  // no receive came in time: blocked becomes a fault
  void stop();
  // prepare() and received() until the bytes are used up or the status is not `more`; returns bytes
  // taken.
  std::size_t feed(std::span<const std::byte> bytes);

  Status status() const { return status_; }
  bool heard() const { return heard_; }  // one valid frame has come
  // The stream may end here without having cut anything.
  bool between_messages() const { return begin_ == end_ && !in_segment_ && open_ == Open::none; }
  const Fault& fault() const { return fault_; }
  // Of the frame at fault: its DDP header behind the length field, if it had come, and the length
  // field.
  std::span<const std::byte> culprit() const { return {culprit_.data(), culprit_size_}; }
  std::uint16_t culprit_length() const { return culprit_length_; }
  std::span<const std::byte> terminate_payload() const;

 private:
  enum class Step : std::uint8_t { go_on, wait };
  enum class Open : std::uint8_t { none, write, send };

  Status parse();
  Step start_frame();
  Step open_segment(std::span<const std::byte> header, bool whole);
  Step continue_segment();
  Step finish_segment();
  void deliver_send();
  void deliver_immediate();
  std::optional<Fault> check(const Segment& segment);
  std::optional<Fault> check_tagged(const Segment& segment);
  std::optional<Fault> check_untagged(const Segment& segment);
  std::optional<Fault> check_terminate(const Segment& segment) const;
  std::optional<Fault> check_invalidation(const Segment& segment) const;
  // Sets target_ for the last `n` payload bytes of segment_, asking the keys again.
  std::optional<Fault> resolve_target(std::size_t n);
  Step fail(const Fault& fault, std::span<const std::byte> frame);
  void consume(std::size_t bytes) { begin_ += bytes; }
  void make_room();
  bool needs_receive(const Segment& segment) const;
  std::span<const std::byte> staged() const { return {staging_.get() + begin_, end_ - begin_}; }

  Keys& keys_;
  ReceiveQueue& receives_;
  ReceiveSink& sink_;
  const ReceiverOptions options_;
  Status status_ = Status::more;
  bool heard_ = false;

  std::unique_ptr<std::byte[]> staging_;
  std::size_t begin_ = 0, end_ = 0;  // bytes staged and not yet used
  std::size_t frame_size_ = 0;  // of the frame at begin_, when known; in a segment: its pad and CRC
  bool large_frames_ = false;   // the stream carries large frames at the moment
  bool read_was_full_ = false;
  std::size_t direct_room_ = 0;  // what prepare() offered of the payload's own place
  std::size_t staging_room_ = 0;
  static constexpr std::size_t kParts = 32;
  std::array<iovec, kParts> parts_{};

  // The frame whose header was taken.
  bool in_segment_ = false;
  Segment segment_;
  bool crc_pending_ = false;  // crc_ runs along
  wire::Crc32c crc_;
  std::size_t remaining_ = 0;  // payload to come
  Cursor target_;
  iovec own_target_{};  // target of untagged payload

  // The message under way.
  Open open_ = Open::none;
  wire::RdmapOp open_op_ = wire::RdmapOp::write;
  std::uint32_t open_stag_ = 0;
  std::uint64_t next_offset_ = 0;  // of a write
  std::uint64_t message_bytes_ = 0;
  std::uint32_t next_sequence_;

  std::array<std::byte, sizeof(wire::ImmediatePayload)> immediate_{};
  std::array<std::byte, wire::kTerminatePayloadMax> terminate_{};
  std::size_t terminate_size_ = 0;

  Fault fault_;
  std::array<std::byte, wire::kUntaggedHeaderUlpdu> culprit_{};
  std::size_t culprit_size_ = 0;
  std::uint16_t culprit_length_ = 0;
};

}  // namespace rnbd::fabric::iwarp
