#pragma once
// One request of any length over a queue: executed in pieces its device takes, a few at a time, and
// with FUA also where the device has none (write, then flush). For frontends, whose users know
// neither limit. Embedded and reused like block::Request; nothing is allocated. One thread, that of
// the queue.

#include <array>
#include <cstdint>

#include "block/device.h"

namespace rnbd::block {

class SplitRequest {
 public:
  using Done = void (*)(SplitRequest& request);

  SplitRequest() = default;
  SplitRequest(const SplitRequest&) = delete;
  SplitRequest& operator=(const SplitRequest&) = delete;

  struct What {
    Op op = Op::read;
    std::uint8_t flags = kNoFlags;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;   // not 0, but for flush
    std::byte* data = nullptr;  // read and write: `length` bytes
  };
  // `done` is called once, from the loop, never from inside. Not while an earlier start() is under
  // way.
  void start(Queue& queue, const Limits& limits, const What& what, Done done);
  bool under_way() const { return outstanding_ > 0; }
  std::error_code result() const { return result_; }  // of the first piece that failed

 private:
  static constexpr std::size_t kPieces = 4;
  struct Piece : Request {
    SplitRequest* owner = nullptr;
    iovec data{};
  };
  void submit_next(Piece& piece);
  void submit_flush(Piece& piece);
  static void on_done(Request& request);
  void piece_done(Piece& piece);

  Queue* queue_ = nullptr;
  What what_;
  Done done_ = nullptr;
  std::uint64_t piece_max_ = 0;
  std::uint64_t started_ = 0;  // bytes handed to the queue
  std::uint32_t outstanding_ = 0;
  bool flush_after_ = false;
  std::error_code result_;
  std::array<Piece, kPieces> pieces_;
};

}  // namespace rnbd::block
