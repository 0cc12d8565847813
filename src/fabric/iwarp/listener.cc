#include "fabric/iwarp/listener.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "fabric/iwarp/socket.h"

namespace rnbd::fabric::iwarp {
namespace {

constexpr int kAcceptsPerRound = 64;
constexpr Duration kRetryDelay = std::chrono::milliseconds(100);

constexpr std::size_t kLingeringMax = 64;

// The ring of a server that was killed keeps its address for a moment longer than the process:
// whoever is started in its place waits this long for it.
constexpr Duration kAddressPatience = std::chrono::seconds(1);
constexpr int kAddressRetryMs = 5;

}  // namespace

struct LingeringSockets::Entry final : Linger {
  Entry(Reactor& reactor, const Options& options)
      : Linger(
            reactor, options, [](void* self) { delete static_cast<Entry*>(self); }, this) {}
};

LingeringSockets::~LingeringSockets() {
  while (!entries_.empty()) delete static_cast<Entry*>(&entries_.front());
}

void LingeringSockets::add(UniqueFd fd) {
  if (entries_.count() >= kLingeringMax) return;  // a flood of refused peers is hung up on
  auto* entry = new Entry(reactor_, options_);    // owned by entries_, ends itself
  entries_.push_back(*entry);
  entry->start(std::move(fd));
}

// A socket accepted, its Request not yet whole.
class IwarpListener::Handshake final : public ListNode {
 public:
  Handshake(IwarpListener& listener, UniqueFd fd, Address peer)
      : listener_(listener),
        fd_(std::move(fd)),
        peer_(std::move(peer)),
        timer_(Timer::of<&Handshake::on_timeout>(listener.reactor_, this)) {
    timer_.arm_after(listener.options_.request_timeout);
    watch_.start(listener.reactor_, fd_.get(), POLLIN | POLLRDHUP);
  }
  const Address& peer() const { return peer_; }
  std::unique_ptr<IwarpIncoming> take() {
    watch_.stop();
    Address local = local_address_of(fd_.get());
    return std::make_unique<IwarpIncoming>(std::move(fd_), request_, std::move(local), peer_,
                                           listener_.reactor_.now());
  }

 private:
  void on_timeout() { listener_.end(*this); }
  void on_ready(std::uint32_t) {
    while (!request_.complete()) {
      const auto room = request_.wanted();
      const ssize_t n = ::recv(fd_.get(), room.data(), room.size(), MSG_DONTWAIT);
      if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (n <= 0 || request_.received(static_cast<std::size_t>(n))) return listener_.end(*this);
    }
    listener_.hand_on(*this);
  }
  IwarpListener& listener_;
  UniqueFd fd_;
  Address peer_;
  wire::MpaReader request_{wire::MpaKind::request};
  Watch watch_ = Watch::of<&Handshake::on_ready>(this);
  Timer timer_;
};

IwarpListener::IwarpListener(Reactor& reactor, const Options& options, LingeringSockets& lingering,
                             ListenHandler& handler)
    : reactor_(reactor),
      options_(options),
      lingering_(lingering),
      handler_(handler),
      retry_(Timer::of<&IwarpListener::accept_some>(reactor, this)) {}

IwarpListener::~IwarpListener() {
  watch_.stop();
  while (!handshakes_.empty()) end(handshakes_.front());
  if (!unlink_path_.empty()) ::unlink(unlink_path_.c_str());
}

Result<std::unique_ptr<Listener>> IwarpListener::open(Reactor& reactor, const Options& options,
                                                      const Address& address,
                                                      LingeringSockets& lingering,
                                                      ListenHandler& handler) {
  std::unique_ptr<IwarpListener> listener(new IwarpListener(reactor, options, lingering, handler));
  auto made = make_socket(address.empty() ? AF_UNSPEC : address.family());
  if (!made) return fail(made.error());
  listener->fd_ = std::move(*made);
  const int fd = listener->fd_.get();
  tune_socket(fd, address.family(),
              options);  // buffer sizes must be known before the TCP handshake
  if (const auto error = listener->bind_patiently(address)) return fail(error);
  if (::listen(fd, options.listen_backlog) != 0) return fail_errno(errno);
  listener->local_ = local_address_of(fd);
  listener->watch_.start(reactor, fd, POLLIN);
  return listener;
}

std::error_code IwarpListener::bind_patiently(const Address& address) {
  const auto give_up = std::chrono::steady_clock::now() + kAddressPatience;
  while (true) {
    const auto error = address.is_unix() ? bind_unix(address) : bind(address);
    const bool may_come_free = error == from_errno(EADDRINUSE);
    if (!may_come_free || std::chrono::steady_clock::now() >= give_up) return error;
    (void)::poll(nullptr, 0, kAddressRetryMs);
  }
}

std::error_code IwarpListener::bind(const Address& address) {
  const int yes = 1;
  if (!address.is_unix()) ::setsockopt(fd_.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  return ::bind(fd_.get(), address.data(), address.length()) == 0 ? std::error_code{}
                                                                  : from_errno(errno);
}

// A socket file of which nobody listens any more is a leftover, and taken over.
std::error_code IwarpListener::bind_unix(const Address& address) {
  const auto* name = reinterpret_cast<const sockaddr_un*>(address.data());
  const bool in_file_system = name->sun_path[0] != '\0';
  auto error = bind(address);
  if (error == from_errno(EADDRINUSE) && in_file_system) {
    struct stat status {};
    auto probe = make_socket(AF_UNIX);
    const bool is_socket = ::lstat(name->sun_path, &status) == 0 && S_ISSOCK(status.st_mode);
    if (is_socket && probe && ::connect(probe->get(), address.data(), address.length()) != 0 &&
        errno == ECONNREFUSED && ::unlink(name->sun_path) == 0) {
      error = bind(address);
    }
  }
  if (!error && in_file_system) unlink_path_ = name->sun_path;
  return error;
}

void IwarpListener::on_ready(std::uint32_t) { accept_some(); }

void IwarpListener::accept_some() {
  for (int left = kAcceptsPerRound; left > 0; --left) {
    UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      admit(std::move(fd));
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
      if (!retry_.armed())
        log_warning("cannot accept on {}: {}", local_.to_string_with_port(),
                    from_errno(errno).message());
      retry_.arm_after(kRetryDelay);
      return;
    }
    if (errno == EAGAIN) return;
    // Anything else is the fate of one connection that ended before it was accepted.
  }
  reactor_.defer(again_);
}

bool IwarpListener::admit(UniqueFd fd) {
  Address peer = peer_address_of(fd.get());
  if (handshake_count_ >= options_.handshakes_max) return false;
  std::size_t& from_here = per_source_[peer.to_string()];
  // On a Unix socket all peers look alike: there the total is the only bound.
  if (!local_.is_unix() && from_here >= options_.handshakes_per_source_max) return false;
  ++from_here;
  ++handshake_count_;
  tune_socket(fd.get(), local_.family(), options_);
  handshakes_.push_back(*new Handshake(*this, std::move(fd), std::move(peer)));
  return true;
}

void IwarpListener::end(Handshake& handshake) {
  const auto source = per_source_.find(handshake.peer().to_string());
  if (source != per_source_.end() && --source->second == 0) per_source_.erase(source);
  --handshake_count_;
  delete &handshake;
}

void IwarpListener::hand_on(Handshake& handshake) {
  std::unique_ptr<IwarpIncoming> incoming = handshake.take();
  end(handshake);
  if (incoming->wants_markers()) {  // which we do not do: refused in our own name
    bool crc = false;
    if (!incoming->answer(false, {}, options_, crc)) lingering_.add(incoming->take_fd());
    return;
  }
  handler_.on_connect_request(std::move(incoming));
}

}  // namespace rnbd::fabric::iwarp
