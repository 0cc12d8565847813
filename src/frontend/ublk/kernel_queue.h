#pragma once
// One hardware queue of a ublk device, on the ring of one reactor: fetches requests, gives them to
// the device's block::Queue, commits the results. Everything on that reactor's thread; the driver
// insists on it too. Allocates at start only.
//
// Destroy when nobody holds a tag any more (see when_kernel_free, when_backend_free), or never.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "block/device.h"
#include "frontend/ublk/abi.h"
#include "frontend/ublk/tag_state.h"
#include "reactor/reactor.h"

namespace rnbd::ublk {

struct QueueSetup {
  int device_fd = -1;  // /dev/ublkcN; stays open until the kernel holds no tag
  std::uint16_t id = 0;
  std::uint16_t depth = 0;
  std::uint32_t io_bytes = 0;  // per tag, whole pages
  bool ioctl_encoded = true;
};

class KernelQueue final {
 public:
  // Opens a queue of the device and maps memory; fetches nothing yet.
  static Result<std::unique_ptr<KernelQueue>> create(Reactor& reactor, const QueueSetup& setup,
                                                     block::Device& device);
  ~KernelQueue();
  KernelQueue(const KernelQueue&) = delete;
  KernelQueue& operator=(const KernelQueue&) = delete;

  void fetch_all();
  // Everything the backend has is answered EIO now, and so is whatever comes.
  void fail_all();
  // Nothing is answered from now on.
  void leave();

  // Once, from the loop or at once: when the driver holds no tag (it was stopped) / when the
  // backend holds none (then only in Mode::failing and leaving is that for good).
  void when_kernel_free(std::function<void()> done);
  void when_backend_free(std::function<void()> done);
  // The driver gave up on us although nobody here asked it to: somebody stopped the device.
  void set_on_gone(std::function<void()> call) { on_gone_ = std::move(call); }
  // The driver's memory is unmapped; only when the kernel is free.
  void release_kernel_memory();

  // The buffers of all tags, one region for good: a fabric may register it.
  std::span<std::byte> arena() const {
    return {memory_, std::size_t{setup_.depth} * setup_.io_bytes};
  }

 private:
  struct Slot;
  KernelQueue(Reactor& reactor, const QueueSetup& setup);
  std::error_code map();
  std::size_t descriptor_bytes() const;
  static void on_fetched(IoOp& op, int result, std::uint32_t flags);
  static void on_finished(block::Request& request);
  void take(Slot& slot, Step step, int result);
  void submit(Slot& slot);
  void commit(Slot& slot, std::int32_t value);
  void send(Slot& slot, std::uint32_t command, std::int32_t value);
  void tell();

  Reactor& reactor_;
  const QueueSetup setup_;
  std::unique_ptr<block::Queue> backend_;
  const ublksrv_io_desc* descriptors_ = nullptr;
  std::byte* memory_ = nullptr;  // a buffer per tag, and one more for requests answered unread
  std::unique_ptr<Slot[]> slots_;
  std::uint32_t commit_command_ = 0;
  std::uint32_t at_kernel_ = 0;
  std::uint32_t at_backend_ = 0;
  Mode mode_ = Mode::serving;
  bool gone_ = false;
  std::function<void()> kernel_free_;
  std::function<void()> backend_free_;
  std::function<void()> on_gone_;
};

}  // namespace rnbd::ublk
