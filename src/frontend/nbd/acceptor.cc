#include "frontend/nbd/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/log.h"

namespace rnbd::nbd {

Acceptor::Acceptor(Reactor& reactor, int listener, OnClient on_client)
    : reactor_(reactor), listener_(listener), on_client_(std::move(on_client)) {}

void Acceptor::start() { watch_.start(reactor_, listener_, POLLIN); }

void Acceptor::accept() {
  for (;;) {
    UniqueFd client(::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (client) {
      const int on = 1;
      ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on,
                   sizeof on);  // fails on Unix sockets: fine
      on_client_(std::move(client));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return;
    log_warning("nbd: accept: {}", from_errno(errno).message());
    retry_.arm_after(std::chrono::milliseconds(200));
    return;
  }
}

}  // namespace rnbd::nbd
