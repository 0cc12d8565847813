#pragma once
// Accepts clients of one listening socket, on one reactor. When the process is out of descriptors
// it tries again a moment later.

#include <functional>

#include "base/unique_fd.h"
#include "reactor/reactor.h"

namespace rnbd::nbd {

class Acceptor {
 public:
  using OnClient = std::function<void(UniqueFd)>;
  Acceptor(Reactor& reactor, int listener, OnClient on_client);
  void start();

 private:
  void on_ready(std::uint32_t) { accept(); }
  void accept();

  Reactor& reactor_;
  int listener_;
  OnClient on_client_;
  Watch watch_ = Watch::of<&Acceptor::on_ready>(this);
  Timer retry_ = Timer::of<&Acceptor::accept>(reactor_, this);
};

}  // namespace rnbd::nbd
