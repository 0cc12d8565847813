#pragma once
// Learns whether looking for work before sleeping pays, from how long the loop was really idle each
// time. Off, it counts idle gaps so short that spinning might have caught their end; enough of them
// turn it on. On, every catch strengthens it and every vain spin weakens it; each time it gives up
// it waits twice as long before it tries again. So a quiet loop never spins, and a hopeless one
// hardly ever. Pure policy.

#include "base/loop.h"

namespace rnbd {

class Spin {
 public:
  explicit Spin(Duration most);

  // How long to look for work this time.
  Duration budget() const { return on_ ? budget_ : Duration::zero(); }
  bool on() const { return on_; }

  void found(Duration spun);  // work came while spinning
  void missed(Duration spun,
              Duration gap);  // it did not: spun in vain (maybe 0), idle for `gap` altogether
  void preempted();           // something else needed this CPU

 private:
  void weaken(int by);

  static constexpr int kStrengthStart = 8;
  static constexpr int kStrengthMax = 32;
  static constexpr int kPatienceMin = 4;
  static constexpr int kPatienceMax = 8192;

  Duration most_;
  Duration budget_;
  Duration typical_;  // moving average of when work came
  bool on_ = false;
  int strength_ = 0;             // while on
  int near_ = 0;                 // while off: gaps that might have been caught
  int patience_ = kPatienceMin;  // how many of them before trying (again)
};

}  // namespace rnbd
