#pragma once
// The polls behind the Watches of one reactor. A poll is reused once the ring is done with it, so
// starting and stopping watches allocates only until the greatest number at one time is reached.

#include <memory>
#include <vector>

#include "reactor/io_op.h"
#include "reactor/watch.h"

namespace rnbd {

struct Watch::Poll {
  IoOp op;  // first member: the ring knows this poll by it
  Reactor* reactor = nullptr;
  Watch* watch = nullptr;  // null once stopped
  int fd = -1;
  std::uint32_t events = 0;
};

class PollPool {
 public:
  explicit PollPool(Reactor& reactor) : reactor_(reactor) {}
  PollPool(const PollPool&) = delete;
  PollPool& operator=(const PollPool&) = delete;
  ~PollPool();  // stops every watch

  Watch::Poll& start(Watch& watch, int fd, std::uint32_t events);
  void stop(Watch::Poll& poll);
  std::size_t size() const { return all_.size(); }

 private:
  static void on_complete(IoOp& op, int result, std::uint32_t flags);
  static void arm(Watch::Poll& poll);
  void release(Watch::Poll& poll);

  Reactor& reactor_;
  std::vector<std::unique_ptr<Watch::Poll>> all_;
  std::vector<Watch::Poll*> free_;
};

}  // namespace rnbd
