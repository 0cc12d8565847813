#pragma once
// What the connections of one path share, whichever loop they live on. Made by the path before its
// first connection, destroyed by it after its last one is finished.

#include <atomic>
#include <memory>

#include "rtrs/counters.h"
#include "rtrs/server/chunks.h"
#include "rtrs/server/request_impl.h"
#include "rtrs/server/server.h"

namespace rnbd::rtrs::server {

// Whether requests are accepted. Opens once and shuts once, and shutting wins: a path that has
// begun to close executes nothing more, on no connection.
class AcceptGate {
 public:
  bool open() const { return state_.load(std::memory_order_acquire) == kOpen; }
  void try_open() {
    std::uint8_t expected = kNew;
    state_.compare_exchange_strong(expected, kOpen, std::memory_order_acq_rel);
  }
  void shut() { state_.store(kShut, std::memory_order_release); }

 private:
  static constexpr std::uint8_t kNew = 0, kOpen = 1, kShut = 2;
  std::atomic<std::uint8_t> state_{kNew};
};

struct PathShared {
  PathShared(const ServerOptions& server_options, RequestHandler& request_handler, Session& owner,
             std::uint16_t cid_num)
      : options(server_options),
        handler(request_handler),
        session(owner),
        connections(cid_num),
        counters(std::make_unique<ChannelCounters[]>(cid_num)) {}

  const ServerOptions& options;
  RequestHandler& handler;
  Session& session;
  const std::uint16_t connections;
  AcceptGate gate;
  std::unique_ptr<ChannelCounters[]> counters;  // by cid
  std::unique_ptr<fabric::Domain> domain;
  std::unique_ptr<Chunks> chunks;
  std::unique_ptr<RequestPool> requests;  // there before the gate opens
};

}  // namespace rnbd::rtrs::server
