#pragma once
// One simulated loop: stands for one reactor of one host. Several of them take turns on one thread,
// in the order of the world's events. Deferred tasks run right after the event that deferred them.

#include <functional>
#include <memory>
#include <vector>

#include "base/loop.h"
#include "base/timer_queue.h"
#include "fabric/sim/event_queue.h"

namespace rnbd::fabric::sim {

class Host;
class World;

class SimLoop final : public Loop {
 public:
  SimLoop(World& world, Host* host, std::uint32_t id);
  ~SimLoop() override;

  TimePoint now() const override;
  void arm(Timer& timer, TimePoint deadline) override;
  void disarm(Timer& timer) override;
  void defer(Task& task) override;
  // Comes after a random delay; what one loop posts to another arrives in order.
  void post(std::function<void()> call) override;
  // True outside of all loops too: test code may touch anything between events.
  bool on_this_thread() const override;

  World& world() { return world_; }
  Host* host() { return host_; }  // nullptr: of no host, never frozen
  std::uint32_t id() const { return id_; }
  void run_deferred();

 private:
  struct Call;
  void on_timer();
  void on_deferred() {}  // the world runs what is deferred after every event of this loop
  void wake_for_timers();
  World& world_;
  Host* host_;
  std::uint32_t id_;
  TimerQueue timers_;
  TimePoint timer_wake_{};
  IntrusiveList<Task> tasks_;
  Event timer_event_ = Event::of<&SimLoop::on_timer>(EventKind::timer, this);
  Event deferred_event_ = Event::of<&SimLoop::on_deferred>(EventKind::deferred, this);
  std::vector<TimePoint> last_post_;  // by number of the posting loop; 0: outside of all
  std::vector<std::unique_ptr<Call>> calls_;
};

}  // namespace rnbd::fabric::sim
