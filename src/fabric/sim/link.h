#pragma once
// The way between two addresses, and what can be wrong with it. A connection goes over one link,
// each direction in order. What a direction holds back is not lost: it arrives after heal(), as on
// a transport that resends. Only a cut or a reset ends connections.

#include <cstdint>

#include "base/intrusive_list.h"
#include "base/loop.h"

namespace rnbd::fabric::sim {

class Host;
class Pipe;
class World;

// How long a message takes: base to base + jitter, and now and then (one in tail_chance) tail more.
struct Latency {
  Duration base = std::chrono::microseconds(5);
  Duration jitter = std::chrono::microseconds(15);
  Duration tail = std::chrono::milliseconds(1);
  std::uint32_t tail_chance = 256;
  std::uint32_t bytes_per_microsecond = 10'000;  // bandwidth of a connection's sender
};

class Link {
 public:
  Link(World& world, Host& a, std::size_t on_a, Host& b, std::size_t on_b, const Latency& latency);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Every connection dies: its ends hear of it after `notice` (each a little later than the other),
  // and nothing passes from now on. New connects get no answer until heal().
  void cut(Duration notice = {});
  // Every connection dies now, but new ones may be made.
  void reset();
  // The same for the connection made as number `nth` of those alive; false if there is none.
  bool reset_one(std::size_t nth);
  // Nothing arrives (at that host), and nobody is told.
  void black_hole();
  void black_hole_towards(const Host& receiver);
  // What a black hole holds back is lost; and how much there is, on its way to that host.
  void drop_held();
  std::size_t undelivered_towards(const Host& receiver);
  // Undoes cut and black_hole: what was held back arrives.
  void heal();
  void set_latency(const Latency& latency);
  void set_latency_towards(const Host& receiver, const Latency& latency);
  // The connection that carries the `count`th next message to that host dies when it has been
  // delivered: the receiver has acted, but the sender's completions and the answer are lost. 1
  // loses only the acknowledgement of the next message.
  void reset_after(const Host& receiver, std::uint64_t count);
  // Work items sent on this link stay not done for this time.
  void stall_completions(Duration time);
  // The ends of all connections at that host fail now. What they sent arrives, and the other ends
  // are not told.
  void break_ends_at(const Host& host);
  // What happens to the next connect requests, one each.
  void refuse_connects(std::uint32_t count) { refused_ = count; }
  void duplicate_connects(std::uint32_t count) { duplicated_ = count; }
  void delay_connects(Duration delay) { connect_delay_ = delay; }  // all of them, until set to 0

  std::size_t connections() const { return pipes_.count(); }
  Host& host(std::size_t side) { return *host_[side]; }

 private:
  friend class Pipe;
  friend class SimConnection;
  friend class SimFabric;
  friend class World;
  struct Way {
    Latency latency;
    bool held = false;              // black hole
    std::uint64_t reset_after = 0;  // deliveries to come before the reset; 0: none planned
  };
  bool joins(int side, const Host& host, std::size_t on) const {
    return host_[side] == &host && on_[side] == on;
  }
  void resume_all();

  World& world_;
  Host* host_[2];
  std::size_t on_[2];
  Way ways_[2];  // by receiving side
  bool down_ = false;
  std::uint32_t refused_ = 0;
  std::uint32_t duplicated_ = 0;
  Duration connect_delay_{};
  TimePoint stalled_until_{};
  IntrusiveList<Pipe> pipes_;
};

}  // namespace rnbd::fabric::sim
