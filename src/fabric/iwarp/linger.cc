#include "fabric/iwarp/linger.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "base/assert.h"
#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {

Linger::Linger(Reactor& reactor, const Options& options, Function done, void* self)
    : reactor_(reactor),
      options_(options),
      done_(done),
      self_(self),
      timer_(Timer::of<&Linger::on_timeout>(reactor, this)) {}

Linger::~Linger() { abort(); }

void Linger::start(UniqueFd fd) {
  RNBD_ASSERT(!active());
  fd_ = std::move(fd);
  ::shutdown(fd_.get(), SHUT_WR);
  timer_.arm_after(options_.linger_timeout);
  watch_.start(reactor_, fd_.get(), POLLIN | POLLRDHUP);
}

void Linger::abort() {
  timer_.disarm();
  watch_.stop();
  if (fd_) abort_socket(std::move(fd_));
}

void Linger::on_ready(std::uint32_t) {
  std::array<std::byte, 16384> bin;
  for (;;) {
    const ssize_t n = ::recv(fd_.get(), bin.data(), bin.size(), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) break;
    dropped_ += static_cast<std::size_t>(n);
    if (dropped_ > options_.linger_bytes_max) break;
  }
  finish();
}

void Linger::on_timeout() { finish(); }

void Linger::finish() {
  timer_.disarm();
  watch_.stop();
  fd_.reset();
  done_(self_);
}

}  // namespace rnbd::fabric::iwarp
