#include "base/event_alarm.h"

#include "base/event.h"

namespace rnbd {

EventAlarm::EventAlarm(Loop& loop)
    : loop_(loop), timer_(Timer::of<&EventAlarm::on_due>(loop, this)) {
  wake_for_counted_events(this, [this, alive = std::weak_ptr<int>(alive_)](TimePoint due) {
    loop_.post([this, alive, due] {
      if (!alive.expired()) set_for(due);
    });
  });
}

EventAlarm::~EventAlarm() { wake_for_counted_events(this, nullptr); }

void EventAlarm::set_for(TimePoint due) {
  if (!timer_.armed() || due < timer_.deadline()) timer_.arm_at(due);
}

void EventAlarm::on_due() {
  if (const auto due = tell_counted_events()) set_for(*due);
}

}  // namespace rnbd
