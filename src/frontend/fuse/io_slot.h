#pragma once
// One FUSE request and its memory, reused for ever. Every request is received into a free slot; a
// read, write, sync or fallocate keeps the slot until its answer is out, so written data goes to
// the device from where the kernel put it, and read data to the kernel from where the device put
// it.

#include <cstddef>
#include <cstdint>

#include "base/intrusive_list.h"
#include "frontend/fuse/access_plan.h"
#include "frontend/fuse/volume.h"

struct fuse_req;  // libfuse's handle of a request to be answered

namespace rnbd::fuse {

constexpr std::size_t kTransferMax =
    1 << 20;  // most the kernel moves with one request (256 pages of 4 KiB)
constexpr std::size_t kBlockMax = 65536;  // largest logical block there is

class IoSlot;
class IoSlotOwner {
 public:
  virtual ~IoSlotOwner() = default;
  virtual void on_slot_done(IoSlot& slot, Volume& volume) = 0;  // answered: the slot is free again
};

class IoSlot final : public ListNode {
 public:
  // Before the payload of a write: fuse_in_header and fuse_write_in. The receive buffer begins that
  // much before a page, so that the payload is page aligned, as direct I/O likes it.
  static constexpr std::size_t kPage = 4096;
  static constexpr std::size_t kHeaders = 80;
  static constexpr std::size_t kBytes = kPage + kTransferMax + 4 * kBlockMax;

  // `memory`: kBytes, page aligned.
  IoSlot(IoSlotOwner& owner, std::byte* memory);

  std::byte* receive_buffer() { return memory_.data - kHeaders; }
  std::byte* payload() { return memory_.data; }

  void start_read(Volume& volume, fuse_req* request, const Extent& extent);
  void start_write(Volume& volume, fuse_req* request, const Extent& extent, std::uint8_t flags);
  void start_zero(Volume& volume, fuse_req* request, const Extent& extent, std::uint8_t flags);
  void start_flush(Volume& volume, fuse_req* request);

 private:
  enum class Answer : std::uint8_t { data, count, nothing };
  struct Io : block::SplitRequest {
    IoSlot* slot = nullptr;
  };
  struct Lock : RangeLock::Holder {
    IoSlot* slot = nullptr;
  };
  void start(Volume& volume, fuse_req* request, Answer answer, const Extent& extent);
  void lock_and_run();
  void run_step();
  void step_done();
  void finish(const std::error_code& error);
  void reply(const std::error_code& error);

  IoSlotOwner& owner_;
  Memory memory_;
  Volume* volume_ = nullptr;
  fuse_req* request_ = nullptr;
  Answer answer_ = Answer::nothing;
  Extent extent_;
  Plan plan_;
  std::size_t step_ = 0;
  bool locked_ = false;
  Lock lock_;
  Io io_;
};

}  // namespace rnbd::fuse
