#include "rtrs/client/lane.h"

#include <algorithm>
#include <cerrno>
#include <limits>

#include "rtrs/client/channel.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::client {
namespace {

// A request that another lane sends for us. Slow, and only for servers of a depth below the number
// of lanes.
struct Loan final : Request {
  Loan(Request& request, Loop& loop) : borrowed(request), home(loop) {
    direction = request.direction;
    message = request.message;
    data = request.data;
    data_length = request.data_length;
    done = [](Request& sent, std::error_code error) {
      auto* loan = static_cast<Loan*>(&sent);
      loan->home.post([loan, error] {
        Request& original = loan->borrowed;
        delete loan;
        original.done(original, error);
      });
    };
  }
  Request& borrowed;
  Loop& home;
};

}  // namespace

LaneImpl::LaneImpl(fabric::Fabric& fabric, std::uint16_t cid, PathPolicy policy)
    : fabric_(fabric), cid_(cid), policy_(policy) {}

void LaneImpl::set_permits(const PermitRange& permits) {
  if (permits_.count != 0) {
    RNBD_ASSERT(permits_.first == permits.first);
    RNBD_ASSERT(permits_.count == permits.count);
    return;
  }
  permits_ = permits;
  free_.reserve(permits.count);
  for (std::uint32_t i = permits.count; i > 0; --i) free_.push_back(i - 1);
}

void LaneImpl::add_channel(Channel& channel) { channels_.push_back(&channel); }

void LaneImpl::remove_channel(Channel& channel) {
  std::erase(channels_, &channel);
  if (!channels_.empty()) return;
  while (!waiting_.empty()) refuse(waiting_.pop_front(), closed_ ? kClosed : kNotConnected);
}

void LaneImpl::close() {
  closed_ = true;
  while (!waiting_.empty()) refuse(waiting_.pop_front(), kClosed);
  refused_task_.unlink();
  run_refused();
}

void LaneImpl::submit(Request& request) {
  if (closed_) return refuse(request, kClosed);
  if (channels_.empty()) return refuse(request, kNotConnected);
  if (!fits(request)) return refuse(request, kTooLong);
  if (permits_.count == 0) return borrow(request);
  if (free_.empty() || !waiting_.empty()) {
    waiting_.push_back(request);
    return;
  }
  start(request);
}

void LaneImpl::borrow(Request& request) {
  RNBD_ASSERT(lender_ != nullptr);
  auto* loan = new Loan(request, loop());
  lender_->loop().post([lender = lender_, loan] { lender->submit(*loan); });
}

bool LaneImpl::fits(const Request& request) const {
  const std::size_t header = request.direction == Direction::read
                                 ? wire::kRtrsMessageMax
                                 : sizeof(wire::layout::WriteMessage);
  return request.data_length <= limits_.max_io_size &&
         request.message.size() <= std::numeric_limits<std::uint16_t>::max() &&
         request.message.size() + header <= limits_.max_hdr_size;
}

void LaneImpl::start(Request& request) {
  const std::uint32_t permit = free_.back();
  free_.pop_back();
  request.permit = permits_.first + permit;
  while (!channels_.empty()) {
    Channel& channel = choose();
    const std::error_code error = channel.send(request, permit);
    if (!error) return;
    if (error != from_errno(ENOTCONN)) break;
    // Nothing was sent: it is going down and its on_closed is on the way. Another path may do.
    std::erase(channels_, &channel);
  }
  free_.push_back(permit);
  refuse(request, kNotConnected);
}

Channel& LaneImpl::choose() {
  if (channels_.size() == 1) return *channels_.front();
  if (policy_ == PathPolicy::round_robin) {
    turn_ = (turn_ + 1) % channels_.size();
    return *channels_[turn_];
  }
  return **std::ranges::min_element(channels_, {},
                                    [](const Channel* channel) { return channel->inflight(); });
}

void LaneImpl::complete(Request& request, std::uint32_t permit, std::error_code error) {
  free_.push_back(permit);
  request.done(request, error);
  start_waiting();
}

void LaneImpl::start_waiting() {
  while (!waiting_.empty() && !free_.empty()) start(waiting_.pop_front());
}

void LaneImpl::refuse(Request& request, Refusal why) {
  request.state = why;
  refused_.push_back(request);
  fabric_.loop().defer(refused_task_);
}

void LaneImpl::run_refused() {
  // Only those refused before this round: a submitter that tries again at once must not hold the
  // loop.
  IntrusiveList<Request> now;
  now.splice_back(refused_);
  while (!now.empty()) {
    Request& request = now.pop_front();
    switch (static_cast<Refusal>(request.state)) {
      case kTooLong:
        request.done(request, Errc::too_long);
        break;
      case kNotConnected:
        request.done(request, from_errno(ENOTCONN));
        break;
      case kClosed:
        request.done(request, Errc::session_closed);
        break;
    }
  }
}

}  // namespace rnbd::rtrs::client
