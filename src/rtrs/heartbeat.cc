#include "rtrs/heartbeat.h"

namespace rnbd::rtrs {

Heartbeat::Heartbeat(Timers& timers, const HeartbeatOptions& options, HeartbeatHandler& handler)
    : timers_(timers),
      options_(options),
      handler_(handler),
      timer_(Timer::of<&Heartbeat::tick>(timers, this)) {}

void Heartbeat::start() {
  seen_ = handler_.received_count();
  missed_ = 0;
  unanswered_ = false;
  timer_.arm_after(options_.interval);
}

void Heartbeat::restart(const HeartbeatOptions& options) {
  options_ = options;
  start();
}

void Heartbeat::on_answer() {
  if (!unanswered_) return;
  unanswered_ = false;
  latency_ = timers_.now() - sent_at_;
}

void Heartbeat::tick() {
  const std::uint64_t received = handler_.received_count();
  if (received != seen_) missed_ = 0;
  seen_ = received;
  if (missed_ > options_.missed_max) {
    handler_.on_heartbeat_lost();
    return;
  }
  // Counted from now, not from the deadline: after a stall of ours the peer gets its full time
  // again.
  timer_.arm_after(options_.interval);
  ++missed_;
  if (missed_ > 1) return;
  sent_at_ = timers_.now();
  unanswered_ = true;
  handler_.send_heartbeat();
}

}  // namespace rnbd::rtrs
