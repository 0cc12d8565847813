#include "fabric/verbs/poller.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>

#include "base/log.h"

namespace rnbd::fabric::verbs {
namespace {

constexpr unsigned kAcknowledgeAt = 256;  // acknowledging takes a lock: many at a time

}  // namespace

bool Poller::poll() { return drain_all(); }

bool Poller::drain_all() {
  bool worked = false;
  const std::size_t count = hot_.size();  // what gets hot meanwhile has its turn in the next round
  for (std::size_t i = 0; i < count; ++i) {
    if (hot_[i] != nullptr) worked |= hot_[i]->drain();
  }
  return worked;
}

bool Poller::arm() {
  for (std::size_t i = 0; i < hot_.size(); ++i) {
    CompletionQueue* queue = hot_[i];
    if (queue == nullptr || queue->armed_) continue;
    // A queue that cannot be armed is dead, and the device says so by an event.
    queue->armed_ = ibv_req_notify_cq(queue->queue_, 0) == 0;
  }
  // What came before they were armed is found now; what comes later makes an event.
  if (drain_all()) return true;
  for (CompletionQueue* queue : hot_) {
    if (queue != nullptr) queue->hot_ = false;
  }
  hot_.clear();
  unlink();
  return false;
}

void Poller::heat(CompletionQueue& queue) {
  if (queue.hot_) return;
  queue.hot_ = true;
  hot_.push_back(&queue);
  reactor_.add_hook(*this);
}

void Poller::remove(CompletionQueue& queue) {
  if (!queue.hot_) return;
  for (CompletionQueue*& entry : hot_) {
    if (entry == &queue) entry = nullptr;
  }
}

Result<std::unique_ptr<CompletionChannel>> CompletionChannel::create(Reactor& reactor,
                                                                     ibv_context* context) {
  std::unique_ptr<CompletionChannel> channel(new CompletionChannel);
  channel->channel_ = ibv_create_comp_channel(context);
  if (channel->channel_ == nullptr) return fail_errno(errno);
  const int fd = channel->channel_->fd;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return fail_errno(errno);
  channel->watch_.start(reactor, fd, POLLIN);
  return channel;
}

CompletionChannel::~CompletionChannel() {
  watch_.stop();
  if (channel_ != nullptr) ibv_destroy_comp_channel(channel_);
}

void CompletionChannel::on_ready(std::uint32_t) {
  ibv_cq* queue = nullptr;
  void* context = nullptr;
  while (ibv_get_cq_event(channel_, &queue, &context) == 0)
    static_cast<CompletionQueue*>(context)->on_event();
}

Result<std::unique_ptr<CompletionQueue>> CompletionQueue::create(Poller& poller,
                                                                 CompletionChannel& channel,
                                                                 int entries, Drain drain,
                                                                 void* self) {
  std::unique_ptr<CompletionQueue> queue(new CompletionQueue(poller, drain, self));
  ibv_context* const device = channel.get()->context;
  queue->queue_ = ibv_create_cq(device, entries, queue.get(), channel.get(), 0);
  if (queue->queue_ == nullptr) return fail_errno(errno);
  queue->heat();  // so that it is armed before the loop sleeps
  return queue;
}

CompletionQueue::~CompletionQueue() {
  poller_.remove(*this);
  if (queue_ == nullptr) return;
  if (unacknowledged_ != 0) ibv_ack_cq_events(queue_, unacknowledged_);
  const int error = ibv_destroy_cq(queue_);
  if (error != 0) log_error("cannot destroy a completion queue: {}", from_errno(error).message());
}

void CompletionQueue::on_event() {
  if (++unacknowledged_ >= kAcknowledgeAt) {
    ibv_ack_cq_events(queue_, unacknowledged_);
    unacknowledged_ = 0;
  }
  armed_ = false;
  heat();
  drain();
}

}  // namespace rnbd::fabric::verbs
