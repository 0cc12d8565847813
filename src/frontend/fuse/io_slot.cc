#include "frontend/fuse/io_slot.h"

#include <linux/fuse.h>

#include <cstring>

#include "frontend/fuse/fuse_api.h"

namespace rnbd::fuse {

static_assert(IoSlot::kHeaders == sizeof(fuse_in_header) + sizeof(fuse_write_in));

IoSlot::IoSlot(IoSlotOwner& owner, std::byte* memory) : owner_(owner) {
  memory_.data = memory + kPage;
  memory_.scratch[0] = memory_.data + kTransferMax + 2 * kBlockMax;
  memory_.scratch[1] = memory_.scratch[0] + kBlockMax;
  io_.slot = this;
  lock_.slot = this;
  lock_.granted = [](RangeLock::Holder& holder) { static_cast<Lock&>(holder).slot->run_step(); };
}

void IoSlot::start(Volume& volume, fuse_req* request, Answer answer, const Extent& extent) {
  RNBD_ASSERT(request_ == nullptr);
  volume_ = &volume;
  request_ = request;
  answer_ = answer;
  extent_ = extent;
  step_ = 0;
  locked_ = false;
  ++volume.under_way;
}

void IoSlot::start_read(Volume& volume, fuse_req* request, const Extent& extent) {
  RNBD_ASSERT(extent.length <= kTransferMax);
  start(volume, request, Answer::data, extent);
  plan_ = plan_read(extent, volume.limits.logical_block_size, memory_);
  run_step();
}

void IoSlot::start_write(Volume& volume, fuse_req* request, const Extent& extent,
                         std::uint8_t flags) {
  RNBD_ASSERT(extent.length <= kTransferMax);
  start(volume, request, Answer::count, extent);
  plan_ = plan_write(extent, volume.limits.logical_block_size, memory_, flags);
  lock_and_run();
}

void IoSlot::start_zero(Volume& volume, fuse_req* request, const Extent& extent,
                        std::uint8_t flags) {
  start(volume, request, Answer::nothing, extent);
  plan_ = plan_zero(extent, volume.limits.logical_block_size, memory_, flags);
  lock_and_run();
}

void IoSlot::start_flush(Volume& volume, fuse_req* request) {
  start(volume, request, Answer::nothing, {});
  plan_ = {};
  plan_.add({.op = block::Op::flush});
  run_step();
}

void IoSlot::lock_and_run() {
  locked_ = true;
  lock_.begin = plan_.begin;
  lock_.end = plan_.end;
  lock_.exclusive = plan_.exclusive;
  volume_->lock.acquire(lock_);
}

void IoSlot::run_step() {
  const Step& step = plan_.steps[step_];
  for (const Edit& edit : step.edits) {
    if (edit.size == 0) continue;
    if (edit.from != nullptr) {
      std::memcpy(edit.to, edit.from, edit.size);
    } else {
      std::memset(edit.to, 0, edit.size);
    }
  }
  io_.start(*volume_->queue, volume_->limits, step.what,
            [](block::SplitRequest& io) { static_cast<Io&>(io).slot->step_done(); });
}

void IoSlot::step_done() {
  if (io_.result()) return finish(io_.result());
  if (++step_ < plan_.count) return run_step();
  finish({});
}

void IoSlot::finish(const std::error_code& error) {
  Volume& volume = *volume_;
  if (locked_) volume.lock.release(lock_);
  reply(error);
  request_ = nullptr;
  volume_ = nullptr;
  --volume.under_way;
  owner_.on_slot_done(*this, volume);
}

// The answers go out at once: one write to the FUSE device each, from the memory the data is in.
void IoSlot::reply(const std::error_code& error) {
  if (error) {
    fuse_reply_err(request_, to_errno(error));
    return;
  }
  switch (answer_) {
    case Answer::data: {
      const std::byte* data = memory_.data + (extent_.offset - plan_.begin);
      fuse_reply_buf(request_, reinterpret_cast<const char*>(data), extent_.length);
      break;
    }
    case Answer::count:
      fuse_reply_write(request_, extent_.length);
      break;
    case Answer::nothing:
      fuse_reply_err(request_, 0);
      break;
  }
}

}  // namespace rnbd::fuse
