#include "reactor/spin.h"

#include <algorithm>

namespace rnbd {

Spin::Spin(Duration most) : most_(most), budget_(most), typical_(most / 2) {}

void Spin::found(Duration spun) {
  strength_ = std::min(strength_ + 1, kStrengthMax);
  if (strength_ == kStrengthMax) patience_ = kPatienceMin;
  typical_ += (spun - typical_) / 8;
  budget_ = std::min(most_, typical_ * 4 + most_ / 8);
}

void Spin::missed(Duration spun, Duration gap) {
  if (most_ == Duration::zero()) return;
  if (on_) {
    if (spun == Duration::zero()) return;  // was not given the chance
    typical_ += (most_ - typical_) / 8;    // perhaps it looked too briefly
    budget_ = std::min(most_, typical_ * 4 + most_ / 8);
    weaken(gap > most_ * 16 ? 4 : 2);
    return;
  }
  // A gap ended by a wake-up contains its latency, on both sides when the peer sleeps too: be
  // generous, trying shows the truth.
  if (gap <= most_ * 4) {
    if (++near_ < patience_) return;
    on_ = true;
    strength_ = kStrengthStart;
    budget_ = most_;
    typical_ = most_ / 2;
  } else {
    near_ /= 2;
  }
}

void Spin::preempted() {
  if (on_) weaken(4);
}

void Spin::weaken(int by) {
  strength_ -= by;
  if (strength_ > 0) return;
  on_ = false;
  near_ = 0;
  patience_ = std::min(patience_ * 2, kPatienceMax);
}

}  // namespace rnbd
