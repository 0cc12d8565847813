#pragma once
// Looks after the completion queues of one reactor. Those that had completions since the loop last
// slept are hot: each round polls them, without a system call. Before the loop sleeps they are
// armed and polled once more; then only the completion channel's descriptor wakes the loop. A cold
// queue costs nothing.

#include <infiniband/verbs.h>

#include <memory>
#include <vector>

#include "base/error.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::verbs {

class CompletionQueue;

class Poller final : public PollHook {
 public:
  explicit Poller(Reactor& reactor) : reactor_(reactor) {}
  bool poll() override;
  bool arm() override;

 private:
  friend class CompletionQueue;
  void heat(CompletionQueue& queue);
  void remove(CompletionQueue& queue);
  bool drain_all();

  Reactor& reactor_;
  std::vector<CompletionQueue*> hot_;  // null: removed meanwhile
};

// One completion channel: of one device and one reactor.
class CompletionChannel {
 public:
  static Result<std::unique_ptr<CompletionChannel>> create(Reactor& reactor, ibv_context* context);
  ~CompletionChannel();
  CompletionChannel(const CompletionChannel&) = delete;
  CompletionChannel& operator=(const CompletionChannel&) = delete;
  ibv_comp_channel* get() const { return channel_; }

 private:
  CompletionChannel() = default;
  void on_ready(std::uint32_t events);
  ibv_comp_channel* channel_ = nullptr;
  Watch watch_ = Watch::of<&CompletionChannel::on_ready>(this);
};

class CompletionQueue {
 public:
  // `drain` takes what is there, and is true if there was anything; it may not destroy the queue.
  using Drain = bool (*)(void* self);
  static Result<std::unique_ptr<CompletionQueue>> create(Poller& poller, CompletionChannel& channel,
                                                         int entries, Drain drain, void* self);
  ~CompletionQueue();
  CompletionQueue(const CompletionQueue&) = delete;
  CompletionQueue& operator=(const CompletionQueue&) = delete;
  ibv_cq* get() const { return queue_; }
  // Completions are to be expected soon.
  void heat() { poller_.heat(*this); }

 private:
  friend class Poller;
  friend class CompletionChannel;
  CompletionQueue(Poller& poller, Drain function, void* self)
      : poller_(poller), drain_(function), self_(self) {}
  bool drain() { return drain_(self_); }
  void on_event();

  Poller& poller_;
  Drain drain_;
  void* self_;
  ibv_cq* queue_ = nullptr;
  bool hot_ = false;
  bool armed_ = false;           // an event will come, or is in the channel
  unsigned unacknowledged_ = 0;  // events; destroying the queue waits for them
};

}  // namespace rnbd::fabric::verbs
