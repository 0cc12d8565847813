#pragma once
// The door of a FileDevice on one reactor. A request takes a slot and goes through its steps, each
// one ring operation or several: preflush, then the operation itself, then a sync where FUA needs
// one. Requests beyond the slots wait in order.

#include <array>
#include <memory>
#include <vector>

#include "backend/file/bounce_pool.h"
#include "backend/file/file_device.h"
#include "block/completions.h"
#include "reactor/reactor.h"

namespace rnbd::backend {

class FileQueue final : public block::Queue {
 public:
  FileQueue(FileDevice& device, Reactor& reactor);
  ~FileQueue() override;
  void submit(block::Request& request) override;

 private:
  enum class Step : std::uint8_t { preflush, transfer, range, zeros, sync };
  struct Slot {
    IoOp op;  // first member: the ring knows the slot by it
    FileQueue* queue = nullptr;
    block::Request* request = nullptr;
    std::byte* bounce = nullptr;
    std::uint64_t position = 0;  // bytes of the request done
    int mode = 0;                // of the fallocate under way
    std::uint8_t opcode = 0;     // the ring operation under way
    std::uint8_t retries = 0;
    Step step = Step::transfer;
  };
  static constexpr std::size_t kSlotsPerGrowth = 64;
  static constexpr std::size_t kSlotsMax = 1024;
  static constexpr std::uint8_t kRetriesMax = 32;

  std::error_code admit(const block::Request& request) const;
  bool needs_bounce(const block::Request& request) const;
  bool start(block::Request& request);
  void start_waiting();
  bool grow();
  bool wants_sync(const block::Request& request) const;

  void run(Slot& slot);
  void run_transfer(Slot& slot);
  void run_bounced(Slot& slot);
  void run_range(Slot& slot);
  void run_zeros(Slot& slot);
  void run_sync(Slot& slot);
  void run_ioctl(Slot& slot, unsigned long code);
  template <class Prepare>
  void issue(Slot& slot, Prepare&& prepare);

  static void on_complete(IoOp& op, int result, std::uint32_t flags);
  void completed(Slot& slot, int result);
  void after_transfer(Slot& slot, int result);
  void after_range(Slot& slot, int result);
  void after_sync(Slot& slot, int result);
  void after_modification(Slot& slot);
  void finish(Slot& slot, std::error_code result);

  FileDevice& device_;
  Reactor& reactor_;
  block::Limits limits_;  // made anew when the device's size has changed
  const int fd_;
  std::vector<std::unique_ptr<std::array<Slot, kSlotsPerGrowth>>> slots_;
  std::vector<Slot*> free_;
  IntrusiveList<block::Request> waiting_;
  BouncePool bounces_;
  block::Completions completions_;
};

}  // namespace rnbd::backend
