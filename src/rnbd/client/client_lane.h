#pragma once
// What the devices of one client share on one loop: the messages that can be under way, made once
// and reused for ever, and the turn of the queues that wait for one. Used on its loop only.

#include <array>
#include <functional>
#include <memory>

#include "block/request.h"
#include "rtrs/client/session.h"
#include "wire/rnbd.h"

namespace rnbd::client {

class RemoteQueue;

// One IO message under way: a piece of a block request.
struct IoContext : rtrs::client::Request {
  static constexpr std::size_t kSegments = 128;

  RemoteQueue* queue = nullptr;  // none: not under way
  block::Request* parent = nullptr;
  std::uint32_t generation = 0;  // of the open whose device id the message carries
  wire::layout::Io io;
  std::array<iovec, kSegments> room;  // for a slice of the parent's segments
};

class ClientLane {
 public:
  explicit ClientLane(Loop& loop) : loop_(loop) {}
  ClientLane(const ClientLane&) = delete;
  ClientLane& operator=(const ClientLane&) = delete;
  ~ClientLane();

  Loop& loop() { return loop_; }
  // Messages go over `lane` from now on. Its session was connected once.
  void attach(rtrs::client::Lane& lane);
  // Nothing is sent any more; `done` when nothing is under way.
  void detach(std::function<void()> done);

  // `queue` has something to send: it is asked for it, in turn with the others.
  void ready(RemoteQueue& queue);
  void submit(IoContext& context) { lane_->submit(context); }
  void give_back(IoContext& context);
  void pump();
  // The messages that are with the session, or wait there to be sent.
  template <class F>
  void each_under_way(F&& f) {
    for (std::uint32_t i = 0; i < capacity_; ++i) {
      if (contexts_[i].queue != nullptr) f(contexts_[i]);
    }
  }
  // For LaneDevice: how many devices may send, and how many messages are under way, or given up and
  // the server may still act on them.
  void device_opened() { ++open_devices_; }
  void device_shut() { --open_devices_; }
  void message_out() { ++out_; }
  void message_back() { --out_; }
  // `settled` when the server can no longer act on it; it is done before, as of unknown fate.
  void give_up(IoContext& context, std::function<void()> settled);

 private:
  bool has_its_share(std::uint32_t out_of_device) const;

  Loop& loop_;
  rtrs::client::Lane* lane_ = nullptr;
  std::unique_ptr<IoContext[]> contexts_;
  std::uint32_t capacity_ = 0;
  std::uint32_t under_way_ = 0;
  IntrusiveList<IoContext> free_;
  IntrusiveList<RemoteQueue> ready_;
  IntrusiveList<RemoteQueue> sated_;  // would send, but their devices have their share
  std::uint32_t open_devices_ = 0;
  std::uint32_t out_ = 0;
  bool pumping_ = false;
  std::function<void()> detached_;
};

}  // namespace rnbd::client
