#pragma once
// One client in transmission: requests in, replies out, on one reactor with a queue of its own. As
// many requests as have arrived are taken with one receive, as many replies as are ready leave with
// one send. Memory is bounded: when slots or payload memory run out, the rest waits in the socket.
//
// However it ends (DISC, end of stream, error, close()), requests at the device are waited for:
// only then does the handler hear of it, from the loop. Destroy only then.

#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "block/device.h"
#include "frontend/nbd/payload_arena.h"
#include "frontend/nbd/reply_queue.h"
#include "frontend/nbd/staging.h"
#include "reactor/reactor.h"

namespace rnbd::nbd {

class ConnectionHandler {
 public:
  virtual ~ConnectionHandler() = default;
  virtual void on_connection_closed(Connection& connection) = 0;  // do not destroy it from inside
};

struct ConnectionSetup {
  UniqueFd socket;  // non-blocking or not: never waited on
  std::uint64_t export_id = 0;
  block::Device* device = nullptr;
  block::Limits limits;
  wire::NbdExport geometry;  // as announced to this client
  bool structured = false;
  std::uint32_t inflight_max = 64;
  std::uint32_t payload_bytes_max = 32U << 20;
  std::vector<std::byte> received;  // already, behind the handshake; at most kStagingBytes
};

class Connection final {
 public:
  static constexpr std::size_t kStagingBytes = 256 * 1024;

  static Result<std::unique_ptr<Connection>> create(Reactor& reactor, ConnectionSetup setup,
                                                    ConnectionHandler& handler);
  void start();
  // Disconnects at once; replies not sent yet are dropped.
  void close();
  std::uint64_t export_id() const { return setup_.export_id; }

 private:
  // draining: reads no more, sends what is left. dead: the socket is closed. closed: the handler
  // knows.
  enum class State { open, draining, dead, closed };

  Connection(Reactor& reactor, ConnectionSetup setup, ConnectionHandler& handler,
             std::unique_ptr<block::Queue> queue, PayloadArena arena);

  void on_ready(std::uint32_t events);
  void receive();
  bool receive_once(bool& more);
  bool parse();
  void fill();
  bool begin(const wire::NbdRequest& request);
  void submit(Slot& slot);
  static void on_io_done(block::SplitRequest& io);
  void complete(Slot& slot, const std::error_code& result);
  void flush();
  void want_output(bool wanted);
  void release(Slot& slot);
  void drain();
  void die();
  void maybe_finish();
  void tell_closed() { handler_.on_connection_closed(*this); }

  Reactor& reactor_;
  ConnectionSetup setup_;
  ConnectionHandler& handler_;
  State state_ = State::open;
  bool hangup_ = false;       // the peer will send no more: read to the end of the stream
  bool blocked_ = false;      // no slot or memory for the next request
  bool want_output_ = false;  // the socket is full
  std::uint32_t submitted_ = 0;
  std::unique_ptr<block::Queue> queue_;
  PayloadArena arena_;
  Staging staging_;
  std::uint64_t skip_ = 0;   // payload of a refused write still to come
  Slot* filling_ = nullptr;  // a write whose payload is arriving
  std::uint32_t filled_ = 0;
  std::unique_ptr<Slot[]> slots_;
  IntrusiveList<Slot> free_;
  ReplyQueue replies_;
  Watch watch_ = Watch::of<&Connection::on_ready>(this);
  Task receive_task_ = Task::of<&Connection::receive>(this);
  Task flush_task_ = Task::of<&Connection::flush>(this);
  Task closed_task_ = Task::of<&Connection::tell_closed>(this);
};

}  // namespace rnbd::nbd
