#include "reactor/watch.h"

#include <poll.h>

#include <cerrno>

#include "reactor/poll_pool.h"
#include "reactor/reactor.h"

namespace rnbd {

void Watch::start(Reactor& reactor, int fd, std::uint32_t events) {
  stop();
  poll_ = &reactor.polls().start(*this, fd, events);
}

void Watch::stop() {
  if (poll_ == nullptr) return;
  Poll& poll = *poll_;
  poll_ = nullptr;
  poll.reactor->polls().stop(poll);
}

PollPool::~PollPool() {
  for (auto& poll : all_) {
    if (poll->watch != nullptr) poll->watch->poll_ = nullptr;
  }
}

Watch::Poll& PollPool::start(Watch& watch, int fd, std::uint32_t events) {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Watch::Poll>());
    free_.reserve(all_.size());  // so that release() never allocates
    free_.push_back(all_.back().get());
  }
  Watch::Poll& poll = *free_.back();
  free_.pop_back();
  poll.op.complete = &PollPool::on_complete;
  poll.reactor = &reactor_;
  poll.watch = &watch;
  poll.fd = fd;
  poll.events = events;
  arm(poll);
  return poll;
}

void PollPool::arm(Watch::Poll& poll) {
  poll.reactor->submit(poll.op, [&](io_uring_sqe* entry) {
    io_uring_prep_poll_multishot(entry, poll.fd, poll.events);
  });
}

void PollPool::stop(Watch::Poll& poll) {
  poll.watch = nullptr;
  reactor_.cancel(poll.op);
}

void PollPool::release(Watch::Poll& poll) {
  poll.watch = nullptr;
  free_.push_back(&poll);
}

void PollPool::on_complete(IoOp& op, int result, std::uint32_t flags) {
  auto& poll = reinterpret_cast<Watch::Poll&>(op);
  PollPool& pool = poll.reactor->polls();
  const bool more = (flags & IORING_CQE_F_MORE) != 0;
  if (poll.watch == nullptr) {
    if (!more) pool.release(poll);
    return;
  }
  Watch& watch = *poll.watch;
  if (more) {
    watch.function_(watch.self_, static_cast<std::uint32_t>(result));
    return;
  }
  if (result < 0) {  // refused: let the owner find out what is wrong with the descriptor
    watch.poll_ = nullptr;
    pool.release(poll);
    watch.function_(watch.self_, POLLNVAL);
    return;
  }
  // The kernel ends a multishot when it runs short of room. Go on; what happened meanwhile counts
  // as ready.
  arm(poll);
  watch.function_(watch.self_, static_cast<std::uint32_t>(result));
}

}  // namespace rnbd
