#pragma once
// The heartbeat of one end of a path, with the kernel's timing: at each tick, if the peer was heard
// since the last one, send a heartbeat; else only count, and when more than `missed_max` ticks were
// silent the peer is lost. So one message goes out per silence, and a busy path is never killed for
// a missing answer. Lives on the loop of connection 0.

#include <cstdint>

#include "base/loop.h"
#include "rtrs/options.h"

namespace rnbd::rtrs {

class HeartbeatHandler {
 public:
  virtual ~HeartbeatHandler() = default;
  virtual std::uint64_t received_count()
      const = 0;  // over all connections of the path; any change is life
  virtual void send_heartbeat() = 0;
  virtual void on_heartbeat_lost() = 0;  // the heartbeat has stopped; may be destroyed from inside
};

class Heartbeat {
 public:
  Heartbeat(Timers& timers, const HeartbeatOptions& options, HeartbeatHandler& handler);
  void start();                                   // the first tick comes one interval later
  void restart(const HeartbeatOptions& options);  // with others; from now, as if just heard
  void stop() { timer_.disarm(); }
  void on_answer();  // the peer answered the last heartbeat
  Duration latency() const { return latency_; }

 private:
  void tick();

  Timers& timers_;
  HeartbeatOptions options_;
  HeartbeatHandler& handler_;
  Timer timer_;
  std::uint64_t seen_ = 0;
  unsigned missed_ = 0;
  TimePoint sent_at_{};
  bool unanswered_ = false;
  Duration latency_{};
};

}  // namespace rnbd::rtrs
