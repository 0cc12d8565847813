#pragma once
// A block device of a simulated world: bytes in memory behind latency, with a volatile cache that a
// power cut loses in part, errors, stalls, and requests that overtake each other or take effect in
// two parts. Its queues live on SimLoops. Unkind within the contract of block::Device, like the
// fabric.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/device.h"
#include "fabric/sim/event_queue.h"
#include "fabric/sim/ring.h"

namespace rnbd::fabric::sim {

class SimLoop;
class World;

struct DeviceOptions {
  std::string name = "sim";
  std::uint64_t size = 1 << 20;
  std::uint32_t logical_block_size = 512;
  bool volatile_cache = true;  // also offers FUA
  bool read_only = false;
  Duration latency = std::chrono::microseconds(20);  // of every request, least
  Duration jitter = std::chrono::microseconds(100);  // and at most this more
  // One request in so many takes up to `tail` longer, and takes effect at any time until then.
  std::uint32_t tail_chance = 0;
  Duration tail{};
  // One read or write in so many takes effect in two parts at two times; 0: all at once. What
  // overlaps such a request while it runs is torn, as on a real device.
  std::uint32_t split_chance = 4;
};

class SimDevice final : public block::Device {
 public:
  SimDevice(World& world, const DeviceOptions& options);
  ~SimDevice() override;
  const std::string& name() const override { return options_.name; }
  block::Limits limits() const override;
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override;

  // What a read sees now, and what would survive a power cut for certain.
  std::span<std::byte> contents() { return bytes_; }
  std::span<const std::byte> durable() const { return options_.volatile_cache ? stable_ : bytes_; }
  std::size_t outstanding() const { return outstanding_; }
  void resize(std::uint64_t size);

  // Each block written since the last flush survives or not, by chance. Requests in flight have
  // taken effect, in part or not at all; they and all until power_on() fail with EIO.
  void power_cut();
  void power_on() { powered_ = true; }
  // As Linux does when writing back failed: what was not flushed yet counts as flushed, and is not.
  void forget_dirty();
  // Nothing completes before that much time has passed.
  void stall(Duration time);
  // Asked before a request takes effect; an error fails it (without effect).
  void set_error(std::function<std::error_code(const block::Request&)> error) {
    error_ = std::move(error);
  }
  void fail_next(std::uint32_t count, std::error_code error);
  // Sees each request when it takes effect, for checkers.
  void set_observer(std::function<void(const block::Request&)> observer) {
    observer_ = std::move(observer);
  }

 private:
  class Queue;
  friend class Queue;
  std::error_code refuse(const block::Request& request);
  // Bytes [from, to) of the request take effect.
  void apply(const block::Request& request, std::uint64_t from, std::uint64_t to);
  void move_data(const block::Request& request, std::uint64_t from, std::uint64_t to);
  void written(const block::Request& request, std::uint64_t offset, std::uint64_t length);
  void make_durable(std::uint64_t offset, std::uint64_t length);

  World& world_;
  DeviceOptions options_;
  std::uint64_t id_;
  std::vector<std::byte> bytes_;
  std::vector<std::byte> stable_;  // with a volatile cache: what is on the medium
  std::vector<bool> dirty_;        // blocks where they differ, perhaps
  std::vector<bool> forgotten_;    // and no flush will change that
  bool powered_ = true;
  TimePoint stalled_until_{};
  std::uint32_t fail_next_ = 0;
  std::error_code fail_with_;
  std::size_t outstanding_ = 0;
  std::size_t queues_ = 0;
  std::function<std::error_code(const block::Request&)> error_;
  std::function<void(const block::Request&)> observer_;
};

}  // namespace rnbd::fabric::sim
