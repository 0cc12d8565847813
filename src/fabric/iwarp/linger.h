#pragma once
// The end of a connection that is not to be reset: our FIN, then whatever the peer still sends is
// read and dropped until its FIN. Closing earlier would make TCP answer unread bytes with a reset,
// and that can destroy what the peer has not read yet, our Terminate for one. Bounded in time and
// bytes.

#include <cstddef>

#include "base/intrusive_list.h"
#include "base/unique_fd.h"
#include "fabric/iwarp/options.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::iwarp {

class Linger : public ListNode {
 public:
  using Function = void (*)(void* self);
  // `done` is called from the loop, once, when the socket is closed; it may destroy this.
  Linger(Reactor& reactor, const Options& options, Function done, void* self);
  ~Linger();
  Linger(const Linger&) = delete;
  Linger& operator=(const Linger&) = delete;

  void start(UniqueFd fd);
  bool active() const { return static_cast<bool>(fd_); }
  void abort();  // resets and forgets; `done` is not called

 private:
  void on_ready(std::uint32_t events);
  void on_timeout();
  void finish();

  Reactor& reactor_;
  const Options& options_;
  Function done_;
  void* self_;
  UniqueFd fd_;
  std::size_t dropped_ = 0;
  Watch watch_ = Watch::of<&Linger::on_ready>(this);
  Timer timer_;
};

}  // namespace rnbd::fabric::iwarp
