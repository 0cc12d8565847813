#include "fabric/sim/loop.h"

#include <algorithm>

#include "fabric/sim/world.h"

namespace rnbd::fabric::sim {

struct SimLoop::Call {
  Call(SimLoop& owner, std::function<void()> what) : loop(owner), function(std::move(what)) {
    event.set_place(&loop, loop.id());
  }
  void run() {
    auto& calls = loop.calls_;
    const auto self =
        std::find_if(calls.begin(), calls.end(), [&](const auto& c) { return c.get() == this; });
    const std::unique_ptr<Call> last = std::move(*self);  // kept until the call has returned
    calls.erase(self);
    function();
  }
  SimLoop& loop;
  std::function<void()> function;
  Event event = Event::of<&Call::run>(EventKind::post, this);
};

SimLoop::SimLoop(World& world, Host* host, std::uint32_t id) : world_(world), host_(host), id_(id) {
  timer_event_.set_place(this, id);
  deferred_event_.set_place(this, id);
}

SimLoop::~SimLoop() = default;

TimePoint SimLoop::now() const { return world_.now(); }

void SimLoop::arm(Timer& timer, TimePoint deadline) {
  RNBD_ASSERT(on_this_thread());
  timers_.arm(timer, deadline);
  wake_for_timers();
}

void SimLoop::disarm(Timer& timer) {
  RNBD_ASSERT(on_this_thread());
  timers_.disarm(timer);  // an event that finds nothing due is harmless
}

void SimLoop::wake_for_timers() {
  const auto next = timers_.next_deadline();
  if (!next) return;
  if (timer_event_.scheduled() && timer_wake_ <= *next) return;
  timer_wake_ = std::max(*next, world_.now()) + world_.some(world_.options().timer_slack);
  world_.schedule(timer_event_, timer_wake_);
}

void SimLoop::on_timer() {
  timers_.run_due(world_.now());
  wake_for_timers();
}

void SimLoop::defer(Task& task) {
  RNBD_ASSERT(on_this_thread());
  if (task.linked()) return;
  tasks_.push_back(task);
  if (world_.current() != this && !deferred_event_.scheduled())
    world_.schedule(deferred_event_, world_.now());
}

void SimLoop::run_deferred() {
  for (int rounds = 0; !tasks_.empty(); ++rounds) {
    RNBD_ASSERT(rounds < 1'000'000);  // tasks that defer each other for ever would stop time
    tasks_.pop_front().run();
  }
}

void SimLoop::post(std::function<void()> call) {
  const std::size_t poster = world_.current() == nullptr ? 0 : world_.current()->id();
  if (last_post_.size() <= poster) last_post_.resize(poster + 1);
  const TimePoint time =
      std::max(last_post_[poster], world_.now() + world_.some(world_.options().post_delay));
  last_post_[poster] = time;
  calls_.push_back(std::make_unique<Call>(*this, std::move(call)));
  world_.schedule(calls_.back()->event, time);
}

bool SimLoop::on_this_thread() const {
  return world_.current() == nullptr || world_.current() == this;
}

}  // namespace rnbd::fabric::sim
