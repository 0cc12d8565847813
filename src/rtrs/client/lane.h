#pragma once
// The slice of a session on one loop: a fixed range of permits, the channels of the paths that are
// up, and the requests waiting for a permit. Every method on the lane's loop unless it says
// otherwise.

#include <functional>
#include <list>
#include <vector>

#include "rtrs/client/session.h"

namespace rnbd::rtrs::client {

class Channel;

// Names one lost connection of one path, in one session; never used twice.
using LossId = std::uint64_t;

// The permits of one lane: ids [first, first + count) of the session's queue depth.
struct PermitRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
};

class LaneImpl final : public Lane {
 public:
  // `cid` is the connection this lane uses of every path. Any thread.
  LaneImpl(fabric::Fabric& fabric, std::uint16_t cid, PathPolicy policy, Failover failover);

  Loop& loop() override { return fabric_.loop(); }  // any thread
  std::uint32_t permits() const override { return permits_.count; }
  bool connected() const override { return !channels_.empty(); }
  void submit(Request& request) override;
  void give_up(Request& request, std::function<void()> settled) override;

  fabric::Fabric& fabric() { return fabric_; }  // any thread
  std::uint16_t cid() const { return cid_; }    // any thread
  bool closed() const { return closed_; }

  // The first time gives the lane its permits; they never change.
  void set_permits(const PermitRange& permits);
  void set_limits(const SessionLimits& limits) { limits_ = limits; }
  void set_policy(PathPolicy policy) { policy_ = policy; }
  // May writes of a lost path wait here for its fence? Else they are given back.
  void set_holds_writes(bool holds) { holds_writes_ = holds; }
  void add_channel(Channel& channel);
  void remove_channel(Channel& channel);  // nothing new is sent over it; a no-op if it is not here
  // From now on everything ends with session_closed; what waited has ended when it returns. `done`
  // when nothing lent is out any more, which may be at once: the lender may go then.
  void close(std::function<void()> done);
  // Who sends for this lane should there be more lanes than permits. Before the first path is up.
  void set_lender(LaneImpl& lender) { lender_ = &lender; }
  // For what the lender has done.
  void on_returned(Request& request, std::error_code error);

  // From a channel: `request` had `permit` (lane-local) and nothing can touch its memory any more.
  void complete(Request& request, std::uint32_t permit, std::error_code error);
  // The same, but nobody knows whether the server acted or still will.
  void lose(LossId loss, Request& request, std::uint32_t permit);
  // The same, for a request whose place its heir has taken.
  void give_back(Request& request) { refuse(request, kLost); }
  void start_waiting();  // after a channel's last lose(), too
  // Nothing of that connection can take effect any more.
  void fenced(LossId loss);
  // What was not sent yet, for want of a permit, goes back as not sent.
  void give_back_waiting();
  // Sends a control message over this very channel; false: no permit, try later.
  bool submit_over(Channel& channel, Request& request);

 private:
  // What one lost connection left behind.
  struct Limbo {
    explicit Limbo(LossId id) : loss(id) {}
    const LossId loss;
    std::vector<std::uint32_t> permits;  // not to be used before the fence (safety rule R11)
    IntrusiveList<Request> writes;       // held; sent again after it
    IntrusiveList<Request> heirs;        // of requests that were given up
  };
  enum Refusal : std::uint32_t { kTooLong, kNotConnected, kLost, kClosed, kFailed };
  static void finish(Request& request, std::error_code error);
  void start(Request& request);
  void start_with(Request& request, std::uint32_t permit);
  Limbo& limbo(LossId loss);
  static void settle(Limbo& left);
  std::optional<std::uint32_t> any_permit();
  void give_back_held();
  void borrow(Request& request);
  void refuse(Request& request, Refusal why);
  void run_refused();
  bool fits(const Request& request) const;
  Channel& choose();

  fabric::Fabric& fabric_;
  const std::uint16_t cid_;
  const Failover failover_;
  PathPolicy policy_;
  bool holds_writes_ = false;
  LaneImpl* lender_ = nullptr;
  std::uint32_t lent_ = 0;  // with the lender
  std::function<void()> closed_call_;
  PermitRange permits_;
  SessionLimits limits_;
  std::vector<std::uint32_t> free_;  // lane-local permits, last in first out: warm memory first
  std::vector<Channel*> channels_;
  std::size_t turn_ = 0;
  bool closed_ = false;
  std::list<Limbo> limbo_;
  IntrusiveList<Request> waiting_;
  IntrusiveList<Request> refused_;
  Task refused_task_ = Task::of<&LaneImpl::run_refused>(this);
};

}  // namespace rnbd::rtrs::client
