#pragma once
// One end of a simulated connection. See Pipe for the way between the ends.
//
// It is as unkind as the contract allows: until on_closed a closing connection may still read
// posted bytes and place what arrives; completions come late, or not at all where the connection
// dies first.

#include <memory>
#include <vector>

#include "fabric/fabric.h"
#include "fabric/sim/event_queue.h"
#include "fabric/sim/loop.h"
#include "fabric/sim/memory.h"
#include "fabric/sim/pipe.h"
#include "fabric/sim/ring.h"

namespace rnbd::fabric::sim {

class SimFabric;

class SimConnection final : public Connection {
 public:
  SimConnection(SimFabric& fabric, SimDomain& domain, const ConnectionOptions& options,
                ConnectionHandler& handler, std::shared_ptr<Pipe> pipe, int side);
  ~SimConnection() override;

  std::error_code post(std::span<const Work> batch) override;
  std::error_code post_receive(std::span<std::byte> buffer, std::uint64_t cookie) override;
  Result<RemoteSpan> expose(std::uint32_t window, std::span<const iovec> local) override;
  void hide(std::uint32_t window) override;
  void forget(std::uint32_t window) override;
  Result<RemoteSpan> open_gate(Memory& memory, std::size_t chunk, std::uint64_t cookie) override;
  std::error_code shut_gate(Memory& memory, std::size_t chunk, std::uint64_t cookie) override;
  void close(std::error_code why, bool graceful) override;
  const Address& local_address() const override { return addresses_[0]; }
  const Address& peer_address() const override { return addresses_[1]; }

  // For the fabric.
  void start_connecting(std::span<const std::byte> private_data, Duration timeout, Duration delay);
  void start_accepted(std::span<const std::byte> private_data);
  // For the pipe.
  SimLoop& sim_loop();
  bool deliver(Message& message);  // false: not now
  void place_part(const Message& message);
  void on_room();  // in the pipe, for what waits to be transmitted
  void break_at(TimePoint time, std::error_code why);
  // For the host: its power is gone.
  void lose_power(Host::Death death);

 private:
  enum class State : std::uint8_t { connecting, accepted, open, draining, closing, closed };
  struct Item {
    Work work;
    std::vector<iovec> local;
    std::uint64_t length = 0;
    std::uint64_t sample = 0;     // of the bytes when posted
    SimMemory* memory = nullptr;  // a gate to be moved: to this key
    std::size_t chunk = 0;
    std::uint32_t gate_key = 0;
  };
  struct Done {
    std::uint64_t cookie = 0;
    TimePoint due{};
    Item item;  // its bytes may be sent again until then
  };
  struct Receive {
    std::span<std::byte> buffer;
    std::uint64_t cookie = 0;
  };

  void on_transmit();
  void transmit(Item& item);
  void finish_item(Item& item);
  std::error_code move_gate(SimMemory& memory, std::size_t chunk, std::uint32_t key,
                            std::uint64_t cookie);
  void schedule_transmit();
  void on_done_due();
  void on_ready();
  void on_break();
  void on_timeout();
  void on_closed_due();
  void flush();
  bool running() const { return state_ == State::open; }
  // The one way down. `tell`: what the peer is to report; nothing where it cannot or need not hear.
  void begin_close(std::error_code why, std::error_code tell);
  bool deliver_work(Message& message);
  bool place(Message& message);
  void deliver_message(Message& message);
  void fault(std::error_code why);
  std::uint64_t sample(const Item& item) const;
  void check_unchanged(const Item& item) const;
  void leave_sender_behind();

  SimFabric& fabric_;
  World& world_;
  SimDomain& domain_;
  ConnectionOptions options_;
  ConnectionHandler& handler_;
  std::shared_ptr<Pipe> pipe_;  // shared with the other end
  int side_;
  Address addresses_[2];
  State state_ = State::connecting;
  Ring<Item> items_;  // posted, not transmitted
  Ring<Done> dones_;  // transmitted, not yet told
  Ring<Receive> receives_;
  SimWindows windows_;
  TimePoint sender_free_{};
  TimePoint last_done_{};
  std::error_code why_;
  std::error_code tell_peer_;
  std::error_code break_why_;
  bool silent_;            // an acceptor that waits for the initiator's first message (contract, 6)
  bool late_completions_;  // done comes with the peer's acknowledgement rather than with the last
                           // byte
  bool acknowledged_no_more_ = false;  // the way is severed, though this end may not know
  bool lingers_;                       // goes on sending and placing until on_closed
  Event transmit_ = Event::of<&SimConnection::on_transmit>(EventKind::transmit, this);
  Event done_ = Event::of<&SimConnection::on_done_due>(EventKind::done, this);
  Event ready_ = Event::of<&SimConnection::on_ready>(EventKind::connected, this);
  Event break_ = Event::of<&SimConnection::on_break>(EventKind::broken, this);
  Event timeout_ = Event::of<&SimConnection::on_timeout>(EventKind::timer, this);
  Event closed_ = Event::of<&SimConnection::on_closed_due>(EventKind::closed, this);
};

}  // namespace rnbd::fabric::sim
