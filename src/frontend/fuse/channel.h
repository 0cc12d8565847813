#pragma once
// The stream of requests from the kernel: reads /dev/fuse when it is ready, every request into a
// free slot, and lets libfuse call the file system. Without a free slot, requests wait in the
// kernel.

#include <functional>
#include <memory>
#include <vector>

#include "frontend/fuse/filesystem.h"
#include "reactor/reactor.h"

struct fuse_session;

namespace rnbd::fuse {

class Channel final : public SlotSource, public IoSlotOwner {
 public:
  static Result<std::unique_ptr<Channel>> create(Reactor& reactor, Filesystem& filesystem,
                                                 std::uint32_t inflight_max);
  ~Channel() override;  // stopped, no slot in use

  // `on_ended` is called from the loop when the kernel has closed the connection.
  void start(fuse_session* session, int fd, std::function<void()> on_ended);
  void stop();
  std::uint32_t in_use() const { return in_use_; }
  void set_on_idle(std::function<void()> call) { on_idle_ = std::move(call); }

  IoSlot& claim() override;
  void on_slot_done(IoSlot& slot, Volume& volume) override;

 private:
  Channel(Reactor& reactor, Filesystem& filesystem, std::byte* memory, std::uint32_t inflight_max);
  void on_ready(std::uint32_t) { receive(); }
  void receive();
  bool receive_one();

  Reactor& reactor_;
  Filesystem& filesystem_;
  std::byte* memory_;
  std::size_t memory_bytes_;
  std::vector<std::unique_ptr<IoSlot>> slots_;
  IntrusiveList<IoSlot> free_;
  IoSlot* current_ = nullptr;  // the slot of the request being handled, unless claimed
  std::uint32_t in_use_ = 0;
  bool blocked_ = false;
  fuse_session* session_ = nullptr;
  std::function<void()> on_ended_;
  std::function<void()> on_idle_;
  Watch watch_ = Watch::of<&Channel::on_ready>(this);
  Task receive_task_ = Task::of<&Channel::receive>(this);
};

}  // namespace rnbd::fuse
