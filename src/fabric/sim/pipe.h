#pragma once
// One connection as the network sees it: two ordered directions between two ends, of which either
// may already, or still, be missing. What an end did last (closing, failing) travels behind its
// data. Shared by the two ends and the unanswered request between them: whoever lets go last ends
// it.

#include <memory>
#include <vector>

#include "fabric/fabric.h"
#include "fabric/sim/event_queue.h"
#include "fabric/sim/host.h"
#include "fabric/sim/link.h"
#include "fabric/sim/ring.h"

namespace rnbd::fabric::sim {

class SimConnection;

// What travels.
struct Message {
  enum class Kind : std::uint8_t { connect, accepted, rejected, work, finish };
  Kind kind = Kind::work;
  Work::Op op = Work::Op::send;
  bool placed = false;  // the bytes of a write_imm that still waits for its receive
  TimePoint arrival{};
  RemoteSpan remote;
  std::uint32_t immediate = 0;
  std::uint32_t invalidate_key = 0;
  std::error_code why;             // finish: what the other end reports
  std::vector<std::byte> payload;  // private data, or what was sent
};

class Pipe final : public ListNode, public std::enable_shared_from_this<Pipe> {
 public:
  // Side 0 connects. `link` may be nullptr when there is no way to the destination: nothing
  // arrives.
  static std::shared_ptr<Pipe> create(World& world, Link* link, int initiator_side,
                                      const Address& source, const Address& destination);
  Pipe(World& world, Link* link, int initiator_side, const Address& source,
       const Address& destination);

  void attach(int side, SimConnection& connection);
  void detach(int side);
  SimConnection* end(int side) const { return ends_[side]; }
  Host* host(int side) const;
  const Address& address(int side) const { return addresses_[side]; }
  Link* link() const { return link_; }
  std::uint64_t id() const { return id_; }

  // A fresh message from `side`, to be filled; launch() sends it off.
  Message& prepare(int from_side, Message::Kind kind);
  void launch(int from_side, Duration extra_delay = {});
  void finish(int from_side, std::error_code why);
  bool congested(int from_side) const { return ways_[1 - from_side].bytes > most_in_flight_; }
  // Delivery to `side` goes on after it could not: a receive was posted, the end is ready, the link
  // healed.
  void resume(int side);
  // Work items that have not been delivered to `side`.
  std::size_t undelivered(int side) { return ways_[side].messages.size(); }
  // Loses what is held back.
  void drop_held();
  // What is held back and has outlived its sender for too long is lost.
  void expire();
  // Both ends lose the connection at `time` and a little later; nothing arrives any more.
  void sever(TimePoint time, std::error_code why);
  // The end on a host that lost power is gone without a word.
  void abandon(int side);
  // The initiator has given up, so that accepting is in vain.
  bool given_up() const { return given_up_; }

 private:
  // What is under way to one side.
  struct Way {
    Way(Pipe& owner, int to);
    void arrive() { pipe.on_arrival(side); }
    Pipe& pipe;
    int side;
    Ring<Message> messages;
    std::uint64_t bytes = 0;
    TimePoint last{};
    bool delivering = false;
    bool told_gone = false;
    Event event = Event::of<&Way::arrive>(EventKind::arrival, this);
  };
  void on_arrival(int side);
  SimLoop* receiver(Way& way) const;
  void schedule(Way& way);
  bool held(int side) const;
  bool deliver(int side, Message& message);  // false: later
  bool deliver_connect(Message& message);
  void duplicate_connect(const std::vector<std::byte>& private_data);
  void deliver_twin(std::span<const std::byte> private_data);
  void deliver_to_nobody(int side, const Message& message);
  void pop(Way& way);
  static void lose(Way& way);
  void count_delivery(int side);
  void place_part_of_head(int side);

  World& world_;
  Link* link_;
  int initiator_side_;  // which side of the link side 0 is on
  std::uint64_t id_;
  std::uint64_t most_in_flight_;
  SimConnection* ends_[2] = {nullptr, nullptr};
  Address addresses_[2];
  Way ways_[2];
  bool severed_ = false;
  bool given_up_ = false;
};

}  // namespace rnbd::fabric::sim
