#include "rtrs/client/lane.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>
#include <utility>

#include "base/mutation.h"
#include "rtrs/client/channel.h"
#include "wire/rtrs.h"

namespace rnbd::rtrs::client {
namespace {

// A request that another lane sends for us. Slow, and only for servers of a depth below the number
// of lanes.
struct Loan final : Request {
  Loan(Request& request, LaneImpl& lane) : borrowed(request), borrower(lane) {
    direction = request.direction;
    message = request.message;
    data = request.data;
    data_length = request.data_length;
    changes = request.changes;
    done = [](Request& sent, std::error_code error) {
      auto* loan = static_cast<Loan*>(&sent);
      loan->borrower.loop().post([loan, error] {
        const std::unique_ptr<Loan> owned(loan);
        loan->borrowed.posted = loan->posted;
        loan->borrower.on_returned(loan->borrowed, error);
      });
    };
  }
  Request& borrowed;
  LaneImpl& borrower;
};

// What is left of a request that was given up.
struct Heir final : Request {
  explicit Heir(std::function<void()> call) : settled(std::move(call)) {
    heir = this;
    done = [](Request& request, std::error_code) {
      const std::unique_ptr<Heir> owned(static_cast<Heir*>(&request));
      owned->settled();
    };
  }
  std::function<void()> settled;
};

}  // namespace

LaneImpl::LaneImpl(fabric::Fabric& fabric, std::uint16_t cid, PathPolicy policy, Failover failover)
    : fabric_(fabric), cid_(cid), failover_(failover), policy_(policy) {}

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
  give_back_waiting();
  give_back_held();
}

void LaneImpl::close(std::function<void()> done) {
  closed_ = true;
  give_back_waiting();
  give_back_held();
  for (Limbo& left : limbo_) settle(left);
  refused_task_.unlink();
  run_refused();
  if (lent_ == 0) return done();
  closed_call_ = std::move(done);
}

void LaneImpl::submit(Request& request) {
  request.posted = {};
  request.lost_on = nullptr;
  request.heir = nullptr;
  if (closed_) return refuse(request, kClosed);
  if (channels_.empty()) return refuse(request, kNotConnected);
  if (!fits(request)) return refuse(request, kTooLong);
  if (permits_.count == 0) return borrow(request);
  if (request.control) {
    if (const auto permit = any_permit()) return start_with(request, *permit);
  }
  if (free_.empty() || !waiting_.empty()) {
    waiting_.push_back(request);
    return;
  }
  start(request);
}

void LaneImpl::borrow(Request& request) {
  RNBD_ASSERT(lender_ != nullptr);
  ++lent_;
  auto* loan = new Loan(request, *this);
  lender_->loop().post([lender = lender_, loan] { lender->submit(*loan); });
}

void LaneImpl::on_returned(Request& request, std::error_code error) {
  --lent_;
  finish(request, error);
  if (lent_ == 0 && closed_call_) std::exchange(closed_call_, nullptr)();
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
  start_with(request, permit);
}

void LaneImpl::start_with(Request& request, std::uint32_t permit) {
  request.permit = permits_.first + permit;
  while (!channels_.empty()) {
    Channel& channel = choose();
    const std::error_code error = channel.send(request, permit);
    if (!error) return;
    if (error != from_errno(ENOTCONN)) {
      free_.push_back(permit);
      request.permit = static_cast<std::uint32_t>(to_errno(error));
      return refuse(request, kFailed);
    }
    // Nothing was sent: it is going down and its on_closed is on the way. Another path may do.
    std::erase(channels_, &channel);
  }
  free_.push_back(permit);
  refuse(request, kNotConnected);
}

// ---- Which path ----

Channel& LaneImpl::choose() {
  if (channels_.size() == 1) return *channels_.front();
  if (policy_ == PathPolicy::round_robin) {
    for (std::size_t i = 0; i < channels_.size(); ++i) {
      turn_ = (turn_ + 1) % channels_.size();
      if (!channels_[turn_]->slow()) return *channels_[turn_];
    }
    return *channels_[turn_];
  }
  // The earliest of those that are equal. A slow path serves only when there is no other.
  return **std::ranges::min_element(channels_, {}, [this](const Channel* channel) {
    const std::uint64_t load = policy_ == PathPolicy::min_latency
                                   ? static_cast<std::uint64_t>(channel->latency().count())
                                   : channel->inflight();
    return std::pair(channel->slow(), load);
  });
}

// ---- Requests that are not waited for any longer ----

void LaneImpl::give_up(Request& request, std::function<void()> settled) {
  const auto is_in = [&request](IntrusiveList<Request>& list) {
    bool found = false;
    list.for_each([&](Request& each) { found |= &each == &request; });
    return found;
  };
  if (is_in(refused_)) return settled();  // done is on its way
  if (is_in(waiting_)) {
    request.unlink();
    refuse(request, kNotConnected);
    return settled();
  }
  request.heir = new Heir(std::move(settled));
  for (Limbo& left : limbo_) {
    if (!is_in(left.writes)) continue;
    request.unlink();
    left.heirs.push_back(*std::exchange(request.heir, nullptr));
    return refuse(request, kLost);
  }
  for (Channel* channel : channels_) {
    if (channel->give_up(request)) return;
  }
  // With the lender, or on a connection that is ending.
}

void LaneImpl::settle(Limbo& left) {
  while (!left.heirs.empty()) {
    Request& heir = left.heirs.pop_front();
    heir.done(heir, {});
  }
}

// ---- Answers, and paths lost before them ----

// With its heir, which it still has if its memory could not be let go of before.
void LaneImpl::finish(Request& request, std::error_code error) {
  Request* const heir = request.heir != &request ? request.heir : nullptr;
  request.done(request, error);
  if (heir != nullptr) heir->done(*heir, error);
}

void LaneImpl::complete(Request& request, std::uint32_t permit, std::error_code error) {
  free_.push_back(permit);
  finish(request, error);
  start_waiting();
}

LaneImpl::Limbo& LaneImpl::limbo(LossId loss) {
  if (limbo_.empty() || limbo_.back().loss != loss) {
    const auto found = std::ranges::find(limbo_, loss, &Limbo::loss);
    if (found != limbo_.end()) return *found;
    limbo_.emplace_back(loss);
  }
  return limbo_.back();
}

void LaneImpl::lose(LossId loss, Request& request, std::uint32_t permit) {
  const bool read = request.direction == Direction::read && !request.changes;
  if (request.heir != nullptr && !closed_) {
    Limbo& left = limbo(loss);
    left.permits.push_back(permit);
    left.heirs.push_back(*request.heir);
    if (request.heir != &request) request.done(request, Errc::path_lost);
    return;
  }
  if (failover_ == Failover::immediate && !request.control && !closed_ && !channels_.empty())
    return start_with(request, permit);
  if (broken(Rule::r11)) {
    free_.push_back(permit);
    if (request.control || channels_.empty()) return request.done(request, Errc::path_lost);
    return waiting_.push_back(request);
  }
  Limbo& left = limbo(loss);
  left.permits.push_back(permit);
  if (closed_) return finish(request, Errc::session_closed);
  if (request.control || channels_.empty() || (!read && !holds_writes_)) {
    request.done(request, Errc::path_lost);
  } else if (read) {
    waiting_.push_back(request);
  } else {
    left.writes.push_back(request);
  }
}

void LaneImpl::fenced(LossId loss) {
  const auto found = std::ranges::find(limbo_, loss, &Limbo::loss);
  if (found == limbo_.end()) return;
  free_.insert(free_.end(), found->permits.begin(), found->permits.end());
  waiting_.splice_back(found->writes);
  settle(*found);
  limbo_.erase(found);
  channels_.empty() ? give_back_waiting() : start_waiting();
}

void LaneImpl::give_back_waiting() {
  while (!waiting_.empty()) refuse(waiting_.pop_front(), closed_ ? kClosed : kNotConnected);
}

// No path is left to send them over: their submitter holds them from now on.
void LaneImpl::give_back_held() {
  for (Limbo& left : limbo_) {
    while (!left.writes.empty()) refuse(left.writes.pop_front(), closed_ ? kClosed : kLost);
  }
}

// A control message may take a permit that is in quarantine, and it is free afterwards: it goes to
// a server of ours, whose chunks belong to a path, and which puts requests of one permit in order.
std::optional<std::uint32_t> LaneImpl::any_permit() {
  std::vector<std::uint32_t>* from = &free_;
  for (Limbo& left : limbo_) {
    if (from->empty()) from = &left.permits;
  }
  if (from->empty()) return std::nullopt;
  const std::uint32_t permit = from->back();
  from->pop_back();
  return permit;
}

bool LaneImpl::submit_over(Channel& channel, Request& request) {
  const auto permit = any_permit();
  if (!permit) return false;
  request.permit = permits_.first + *permit;
  if (!channel.send(request, *permit)) return true;
  free_.push_back(*permit);
  return false;
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
      case kLost:
        request.done(request, Errc::path_lost);
        break;
      case kClosed:
        request.done(request, Errc::session_closed);
        break;
      case kFailed:  // the fabric would not take it
        request.done(request, from_errno(static_cast<int>(request.permit)));
        break;
    }
  }
}

}  // namespace rnbd::rtrs::client
