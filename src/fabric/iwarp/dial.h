#pragma once
// The initiator's way to an open connection: TCP (or Unix) connect, MPA Request, MPA Reply. Answers
// its handler once, from the loop; destroying it hangs up. Sends nothing behind the Request, reads
// nothing behind the Reply.

#include "base/unique_fd.h"
#include "fabric/fabric.h"
#include "fabric/iwarp/options.h"
#include "reactor/reactor.h"
#include "wire/mpa.h"

namespace rnbd::fabric::iwarp {

class DialHandler {
 public:
  virtual ~DialHandler() = default;
  // Both may destroy the Dial. `reply` is valid during the call. A refusal has reply.rejected.
  virtual void on_answered(UniqueFd fd, bool crc, const wire::MpaFrame& reply) = 0;
  virtual void on_dial_failed(std::error_code why) = 0;
};

class Dial {
 public:
  // Fails at once only for what is wrong on our side: address family, source address, descriptors.
  static Result<std::unique_ptr<Dial>> start(Reactor& reactor, const Options& options,
                                             const ConnectRequest& request, DialHandler& handler);
  ~Dial();
  int fd() const { return fd_.get(); }

 private:
  Dial(Reactor& reactor, const Options& options, const ConnectRequest& request,
       DialHandler& handler);
  std::error_code open(const PathAddress& address);
  void on_ready(std::uint32_t events);
  void on_timeout();
  void report();
  std::error_code send_request();
  void read_reply();
  void fail_with(std::error_code why);

  Reactor& reactor_;
  const Options& options_;
  DialHandler& handler_;
  UniqueFd fd_;
  const Address destination_;
  std::vector<std::byte> private_data_;
  bool want_crc_ = false;
  bool request_sent_ = false;
  std::error_code failure_;
  wire::MpaReader reply_{wire::MpaKind::reply};
  TimePoint deadline_;
  Watch watch_ = Watch::of<&Dial::on_ready>(this);
  Timer timer_;
  Task report_ = Task::of<&Dial::report>(this);
};

// Whether policy demands CRC between these two addresses.
bool demands_crc(CrcPolicy policy, const Address& local, const Address& peer);

}  // namespace rnbd::fabric::iwarp
