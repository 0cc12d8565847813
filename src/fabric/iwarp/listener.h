#pragma once
// Accepts sockets and reads one MPA Request from each, in bounded time and number, then hands it
// on.

#include <map>
#include <string>

#include "fabric/fabric.h"
#include "fabric/iwarp/incoming.h"
#include "fabric/iwarp/linger.h"
#include "fabric/iwarp/options.h"
#include "reactor/reactor.h"

namespace rnbd::fabric::iwarp {

// Takes refused peers, whose end outlives everyone who knew them.
class LingeringSockets {
 public:
  LingeringSockets(Reactor& reactor, const Options& options)
      : reactor_(reactor), options_(options) {}
  ~LingeringSockets();
  void add(UniqueFd fd);

 private:
  struct Entry;
  Reactor& reactor_;
  const Options& options_;
  IntrusiveList<Linger> entries_;
};

class IwarpListener final : public Listener {
 public:
  static Result<std::unique_ptr<Listener>> open(Reactor& reactor, const Options& options,
                                                const Address& address, LingeringSockets& lingering,
                                                ListenHandler& handler);
  ~IwarpListener() override;
  const Address& local_address() const override { return local_; }

 private:
  class Handshake;
  IwarpListener(Reactor& reactor, const Options& options, LingeringSockets& lingering,
                ListenHandler& handler);
  std::error_code bind_patiently(const Address& address);
  std::error_code bind(const Address& address);
  std::error_code bind_unix(const Address& address);
  void on_ready(std::uint32_t events);
  void accept_some();
  bool admit(UniqueFd fd);
  void end(Handshake& handshake);
  void hand_on(Handshake& handshake);

  Reactor& reactor_;
  const Options& options_;
  LingeringSockets& lingering_;
  ListenHandler& handler_;
  UniqueFd fd_;
  Address local_;
  std::string unlink_path_;  // of our Unix socket
  IntrusiveList<Handshake> handshakes_;
  std::size_t handshake_count_ = 0;
  std::map<std::string, std::size_t> per_source_;
  Watch watch_ = Watch::of<&IwarpListener::on_ready>(this);
  Timer retry_;  // after accept failed for want of descriptors
  Task again_ = Task::of<&IwarpListener::accept_some>(this);
};

}  // namespace rnbd::fabric::iwarp
