#pragma once
// The application: keeps requests under way on one queue of a device, on one loop, and tells the
// model what was begun and how it ended. Looks after its memory: what was handed back must not be
// touched any more (I5), and every request ends once (I6).

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "block/device.h"
#include "fabric/sim/loop.h"
#include "sim/volume_model.h"

namespace rnbd::sim_test {

inline constexpr std::uint32_t kBlocksMost = 8;  // of one request

// A write that its process did not live to see the end of.
struct Orphan {
  WriteId id = 0;
  block::Op op = block::Op::write;
  std::uint8_t flags = 0;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

// What the workers of one mount share.
struct Work {
  fabric::sim::World& world;
  const Report& report;
  VolumeModel& model;
  const std::string who;
  const std::uint32_t client;
  const bool writes;
  const bool& disk_failed;  // requests: errors are to be expected
  std::uint32_t depth = 1;
  std::uint32_t budget = 0;  // operations left
  bool preflush = true;
  View view = View::lenient;
  bool stopping = false;       // begin nothing more
  bool dead = false;           // nobody looks at what ends now
  bool device_failed = false;  // it said so: nothing begun later may succeed
  std::uint32_t crashes_at_open = 0;
  std::vector<Orphan> orphans{};  // to be done first: left by a predecessor
  std::uint64_t completed = 0;
  std::function<void()> on_failed{};
};

class Worker {
 public:
  // Opens its queue on `loop` soon after.
  Worker(Work& work, block::Device& device, fabric::sim::SimLoop& loop);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void wake();
  std::uint32_t under_way() const { return under_way_; }
  bool closed() const { return closed_; }
  // What is under way, of a process that died.
  void collect_orphans(std::vector<Orphan>& orphans) const;

 private:
  struct Slot : block::Request {
    Worker* worker = nullptr;
    bool busy = false;
    bool after_failure = false;  // begun when the device had failed already
    WriteId write = 0;
    VolumeModel::Moment began;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    iovec whole{};
    std::array<iovec, 2> halves{};
    std::array<std::byte, std::size_t{kBlocksMost} * kBlock> memory{};
  };
  static void on_done(block::Request& request) {
    auto& slot = static_cast<Slot&>(request);
    slot.worker->ended(slot);
  }
  void step();
  bool begin();
  void begin_orphan(Slot& slot, const Orphan& orphan);
  void begin_new(Slot& slot);
  void submit(Slot& slot);
  void ended(Slot& slot);
  void judge(Slot& slot);
  void judge_error(const Slot& slot);
  void check_untouched(const Slot& slot) const;

  Work& work_;
  block::Device& device_;
  fabric::sim::SimLoop& loop_;
  std::unique_ptr<block::Queue> queue_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::uint32_t under_way_ = 0;
  bool opened_ = false;
  bool closed_ = false;
  fabric::sim::Event step_ =
      fabric::sim::Event::of<&Worker::step>(fabric::sim::EventKind::call, this);
};

}  // namespace rnbd::sim_test
