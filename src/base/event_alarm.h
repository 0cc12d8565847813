#pragma once
// Has the counts of events that were not said told when their while is over, also when nothing
// happens any more. One per daemon, made and destroyed on the thread of its loop; while there is
// none they are told with the next event.

#include <memory>

#include "base/loop.h"

namespace rnbd {

class EventAlarm final {
 public:
  explicit EventAlarm(Loop& loop);
  ~EventAlarm();
  EventAlarm(const EventAlarm&) = delete;
  EventAlarm& operator=(const EventAlarm&) = delete;

 private:
  void set_for(TimePoint due);
  void on_due();
  Loop& loop_;
  Timer timer_;
  std::shared_ptr<int> alive_ = std::make_shared<int>();  // calls on their way here hold it weakly
};

}  // namespace rnbd
