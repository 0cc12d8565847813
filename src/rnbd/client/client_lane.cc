#include "rnbd/client/client_lane.h"

#include <algorithm>

#include "rnbd/client/remote_queue.h"

namespace rnbd::client {

ClientLane::~ClientLane() { RNBD_ASSERT(under_way_ == 0); }

void ClientLane::attach(rtrs::client::Lane& lane) {
  RNBD_ASSERT(under_way_ == 0);
  lane_ = &lane;
  const std::uint32_t wanted = std::max<std::uint32_t>(lane.permits(), 1);
  if (wanted != capacity_) {
    free_.clear();
    contexts_ = std::make_unique<IoContext[]>(wanted);
    capacity_ = wanted;
    for (std::uint32_t i = 0; i < wanted; ++i) free_.push_back(contexts_[i]);
  }
  pump();
}

void ClientLane::detach(std::function<void()> done) {
  lane_ = nullptr;
  if (under_way_ == 0) return done();
  detached_ = std::move(done);
}

void ClientLane::ready(RemoteQueue& queue) {
  if (!queue.linked()) ready_.push_back(queue);
  pump();
}

void ClientLane::give_back(IoContext& context) {
  --under_way_;
  context.queue = nullptr;
  free_.push_front(context);  // warm memory first
  if (under_way_ == 0 && detached_) std::exchange(detached_, nullptr)();
}

void ClientLane::give_up(IoContext& context, std::function<void()> settled) {
  if (lane_ == nullptr) return settled();  // the session has ended, and with it every message
  lane_->give_up(context, std::move(settled));
}

// A device whose storage hangs must not take all permits from the others: it stops when it has
// kShare times as many as are left, so that others have some, and more others fewer. Who is alone
// may have them all.
bool ClientLane::has_its_share(std::uint32_t out_of_device) const {
  constexpr std::uint32_t kShare = 4;
  if (open_devices_ < 2 || out_of_device == 0) return false;
  const std::uint32_t left = capacity_ - std::min(out_, capacity_);
  return left < 2 || out_of_device >= kShare * left;
}

// One message of each queue in turn, while there are messages and something to say.
void ClientLane::pump() {
  if (pumping_) return;  // the round under way sees to it
  pumping_ = true;
  ready_.splice_back(sated_);  // each has messages under way: when one is back, we are here
  while (lane_ != nullptr && !ready_.empty() && !free_.empty()) {
    RemoteQueue& queue = ready_.pop_front();
    if (has_its_share(queue.device().out)) {
      sated_.push_back(queue);
      continue;
    }
    IoContext& context = free_.pop_front();
    ++under_way_;
    if (!queue.send_next(context)) give_back(context);
    if (queue.has_work()) ready_.push_back(queue);
  }
  pumping_ = false;
}

}  // namespace rnbd::client
