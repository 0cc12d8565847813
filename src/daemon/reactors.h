#pragma once
// The threads of a daemon: reactors, each with its fabric (TCP and Unix sockets, and RDMA where
// this build and this machine have it). Reactor 0 is home: administration and
// all state that is not a queue's live there. Created and destroyed by main; what lives on the
// loops is gone by then.

#include <functional>
#include <memory>
#include <vector>

#include "base/event_alarm.h"
#include "daemon/admin/problem.h"
#include "daemon/config/config.h"
#include "daemon/rdma_words.h"
#include "fabric/fabric.h"
#include "reactor/reactor.h"

namespace rnbd::daemon {

class Reactors final {
 public:
  // `name` starts the threads' names. `pinned` is how many bytes one path over RDMA pins: whether
  // it may is found out now, not at the first connect.
  struct Pinned {
    std::size_t per_path = 0;
    std::size_t per_connection = 0;
  };
  static Outcome<std::unique_ptr<Reactors>> start(const std::string& name, const LoopConfig& loops,
                                                  const NetworkConfig& network, Pinned pinned);
  ~Reactors();

  Reactor& home() { return *reactors_.front(); }
  std::span<Reactor* const> reactors() const { return pointers_; }
  std::span<Loop* const> loops() const { return loops_; }
  std::span<fabric::Fabric* const> fabrics() const { return fabrics_; }

  Rdma rdma() const { return rdma_; }

  // Runs `call` on the home loop and waits for it. Not from a reactor.
  void on_home(const std::function<void()>& call);

 private:
  Reactors() = default;
  void add_fabrics(Reactor& reactor, const NetworkConfig& network);
  Rdma rdma_ = Rdma::not_built;
  std::unique_ptr<EventAlarm> event_alarm_;  // on the home loop
  std::vector<std::unique_ptr<Reactor>> reactors_;
  std::vector<std::unique_ptr<fabric::Fabric>> owned_fabrics_;  // after the threads have ended
  std::vector<Reactor*> pointers_;
  std::vector<Loop*> loops_;
  std::vector<fabric::Fabric*> fabrics_;
};

}  // namespace rnbd::daemon
