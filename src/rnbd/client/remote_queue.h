#pragma once
// The door of one remote device on one loop. A block request goes through up to three steps (flush,
// itself, flush), each cut into messages the server takes. A request with a message of unknown fate
// is held and its step done again from the start when the device was opened anew, never before, and
// never failed alone.

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "block/device.h"
#include "rnbd/client/client_lane.h"
#include "rnbd/client/flush_tally.h"
#include "rnbd/client/volume_limits.h"
#include "rtrs/counters.h"

namespace rnbd::client {

struct alignas(64) LaneCounters {
  Counter reads, read_bytes, writes, write_bytes, others, errors, inflight;
  Counter changes;  // done, and in the server's volatile cache when they were
  Histogram queue;  // from submit to the first message sent; of requests that sent any
  Histogram wire;   // from there to the last answer
};

// One device as one loop sees it. The home loop tells by message; the counters it reads as they
// are.
struct LaneDevice : std::enable_shared_from_this<LaneDevice> {
  enum class Gate : std::uint8_t { shut, open, failed };

  ClientLane* lane = nullptr;
  Gate gate = Gate::shut;
  std::uint32_t generation = 0;  // counts opens
  std::uint32_t device_id = 0;
  VolumeLimits limits;
  std::vector<RemoteQueue*> queues;
  FlushTally* flushes = nullptr;  // the device's
  // A message of this generation came back with its fate unknown, or the server does not know the
  // device any more. Nothing is sent until the next open. Called once per generation.
  std::function<void(std::uint32_t generation)> lost;
  LaneCounters counters;
  std::uint32_t out = 0;  // messages under way, or given up and the server may still act on them
  bool unknown = false;   // the fate of a message of this generation is unknown
  std::vector<std::function<void()>> dry;

  void move_to(Gate next);
  // Calls when no message is under way: now, or later. To be shut before.
  void when_dry(std::function<void()> call);
  void message_back();
  void open(std::uint32_t new_generation, std::uint32_t id, const VolumeLimits& new_limits);
  // The volume has another size.
  void resized(std::uint32_t of_generation, const VolumeLimits& new_limits);
  void shut();
  // Nothing is waited for any more: what is under way is given up.
  void fail();
  // Was a message first sent before `then` and has no answer, or a request submitted before it and
  // nothing of it sent?
  bool waits_since(TimePoint then);
  void revive();  // after a failure, when nothing of before is left
};

class RemoteQueue final : public block::Queue, public ListNode {
 public:
  explicit RemoteQueue(LaneDevice& device);
  ~RemoteQueue() override;

  void submit(block::Request& request) override;

  const LaneDevice& device() const { return device_; }
  bool serves(const LaneDevice& device) const { return &device_ == &device; }
  // For the lane: something waits that may be sent now.
  bool has_work() const;
  // Fills `context` with the next message and sends it; false when it was not needed.
  bool send_next(IoContext& context);
  // For LaneDevice: the gate moved.
  void gate_changed();
  bool waits_since(TimePoint then);
  static bool unsent_since(block::Request& request, TimePoint then);  // submitted before it

 private:
  // Lives in Request::driver.
  enum class Step : std::uint8_t { preflush, main, postflush, end };
  struct Progress;
  static Progress& progress(block::Request& request);

  void start_step(block::Request& request, Step step);
  Step first_step(const block::Request& request) const;
  Step next_step(const block::Request& request, Step step) const;
  bool send_flush(block::Request& request, IoContext& context);
  bool send_piece(block::Request& request, IoContext& context);
  void send(block::Request& request, IoContext& context, const wire::Io& io);
  static void on_done(rtrs::client::Request& request, std::error_code error);
  void piece_done(IoContext& context, std::error_code error);
  void settle(block::Request& request);
  void count_step(block::Request& request);
  void count_time(block::Request& request);
  bool hardens(block::Request& request) const;
  void refuse(block::Request& request, std::error_code error);
  void complete(block::Request& request);
  void complete_later(block::Request& request, std::error_code error);
  void complete_finished();

  LaneDevice& device_;
  ClientLane& lane_;
  IntrusiveList<block::Request> again_;    // begun before; they go first
  IntrusiveList<block::Request> waiting_;  // in the order they came
  IntrusiveList<block::Request> finished_;
  Task finished_task_ = Task::of<&RemoteQueue::complete_finished>(this);
};

}  // namespace rnbd::client
