// A device behind an NBD server, through libnbd's asynchronous interface.

#include <libnbd.h>
#include <poll.h>

#include <cerrno>
#include <deque>
#include <set>
#include <utility>

#include "base/assert.h"
#include "stamp/target.h"

namespace rnbd::fault {
namespace {

using namespace std::chrono_literals;

constexpr auto kConnectPause = 20ms;
constexpr auto kConnectLimit = 5s;

class NbdTarget final : public Target {
 public:
  NbdTarget(std::string uri, TargetHandler& handler, TargetOptions options)
      : uri_(std::move(uri)), handler_(handler), options_(options) {}
  ~NbdTarget() override { nbd_close(nbd_); }

  std::error_code start();
  Abilities abilities() const override { return abilities_; }
  bool ready() const override { return ready_; }
  void submit(Io& io) override;
  int descriptor() const override { return nbd_ ? nbd_aio_get_fd(nbd_) : -1; }
  short events() const override;
  void work(short revents) override;
  std::uint64_t reconnects() const override { return connects_ > 0 ? connects_ - 1 : 0; }

 private:
  struct Pending {  // owned by libnbd until its completion
    NbdTarget& target;
    Io& io;
  };
  static int on_completion(void* user, int* error);
  void connect();
  void look();
  void disconnected();
  void deliver();

  std::string uri_;
  TargetHandler& handler_;
  TargetOptions options_;
  nbd_handle* nbd_ = nullptr;
  bool ready_ = false;
  Abilities abilities_;
  std::uint64_t connects_ = 0;
  Clock::time_point connect_at_;     // not before
  Clock::time_point connect_until_;  // or it is given up
  std::set<Io*> inflight_;
  std::deque<std::pair<Io*, int>> done_;
};

std::error_code NbdTarget::start() {
  const auto limit = Clock::now() + kConnectLimit;
  while (!ready_) {
    if (Clock::now() > limit) return std::make_error_code(std::errc::timed_out);
    pollfd one{.fd = descriptor(), .events = events(), .revents = 0};
    (void)::poll(&one, 1, 10);
    work(one.revents);
  }
  return {};
}

void NbdTarget::connect() {
  connect_at_ = Clock::now() + kConnectPause;
  connect_until_ = Clock::now() + kConnectLimit;
  nbd_ = nbd_create();
  RNBD_ASSERT(nbd_ != nullptr);
  nbd_set_strict_mode(nbd_, 0);
  if (nbd_aio_connect_uri(nbd_, uri_.c_str()) == -1) disconnected();
}

short NbdTarget::events() const {
  if (!nbd_) return 0;
  const unsigned direction = nbd_aio_get_direction(nbd_);
  return static_cast<short>(((direction & LIBNBD_AIO_DIRECTION_READ) ? POLLIN : 0) |
                            ((direction & LIBNBD_AIO_DIRECTION_WRITE) ? POLLOUT : 0));
}

void NbdTarget::work(short revents) {
  if (!nbd_) {
    if (Clock::now() >= connect_at_) connect();
  } else {
    const unsigned direction = nbd_aio_get_direction(nbd_);
    if ((revents & (POLLIN | POLLHUP | POLLERR)) && (direction & LIBNBD_AIO_DIRECTION_READ))
      (void)nbd_aio_notify_read(nbd_);
    else if ((revents & (POLLOUT | POLLHUP | POLLERR)) && (direction & LIBNBD_AIO_DIRECTION_WRITE))
      (void)nbd_aio_notify_write(nbd_);
    look();
  }
  deliver();
}

void NbdTarget::look() {
  if (!nbd_) return;
  if (nbd_aio_is_dead(nbd_) == 1 || nbd_aio_is_closed(nbd_) == 1) {
    disconnected();
  } else if (!ready_ && nbd_aio_is_ready(nbd_) == 1) {
    ready_ = true;
    ++connects_;
    abilities_.size = static_cast<std::uint64_t>(nbd_get_size(nbd_));
    abilities_.zeroes = nbd_can_zero(nbd_) == 1;
    abilities_.trim = nbd_can_trim(nbd_) == 1;
  } else if (!ready_ && Clock::now() > connect_until_) {
    disconnected();
  }
}

void NbdTarget::disconnected() {
  ready_ = false;
  nbd_close(std::exchange(nbd_, nullptr));
  for (Io* io : inflight_) done_.emplace_back(io, ENOTCONN);
  inflight_.clear();
  connect_at_ = Clock::now() + kConnectPause;
}

void NbdTarget::submit(Io& io) {
  auto* pending = new Pending{*this, io};
  const nbd_completion_callback callback{
      .callback = &NbdTarget::on_completion, .user_data = pending, .free = [](void* user) {
        delete static_cast<Pending*>(user);
      }};
  const std::uint32_t fua = io.fua ? LIBNBD_CMD_FLAG_FUA : 0;
  std::int64_t cookie = -1;
  inflight_.insert(&io);
  switch (io.kind) {
    case Io::Kind::read:
      cookie = nbd_aio_pread(nbd_, io.data, io.length, io.offset, callback, 0);
      break;
    case Io::Kind::write:
      cookie = nbd_aio_pwrite(nbd_, io.data, io.length, io.offset, callback, fua);
      break;
    case Io::Kind::zeroes:
      cookie = nbd_aio_zero(nbd_, io.length, io.offset, callback, fua);
      break;
    case Io::Kind::trim:
      cookie = nbd_aio_trim(nbd_, io.length, io.offset, callback, fua);
      break;
    case Io::Kind::flush:
      cookie = nbd_aio_flush(nbd_, callback, 0);
      break;
  }
  if (cookie == -1 && inflight_.erase(&io) > 0)
    done_.emplace_back(&io, nbd_get_errno() ? nbd_get_errno() : ENOTCONN);
}

int NbdTarget::on_completion(void* user, int* error) {
  auto* pending = static_cast<Pending*>(user);
  if (pending->target.inflight_.erase(&pending->io) > 0)
    pending->target.done_.emplace_back(&pending->io, *error);
  return 1;  // nothing else waits for it: libnbd may forget it
}

void NbdTarget::deliver() {
  const bool lost = nbd_ == nullptr;
  while (!done_.empty()) {
    const auto [io, error] = done_.front();
    done_.pop_front();
    handler_.on_done(*io, error != 0 && lost && options_.reconnect ? ENOTCONN : error);
  }
}

}  // namespace

Result<std::unique_ptr<Target>> open_nbd_target(const std::string& uri, TargetHandler& handler,
                                                TargetOptions options) {
  auto target = std::make_unique<NbdTarget>(uri, handler, options);
  if (const std::error_code error = target->start()) return fail(error);
  return target;
}

}  // namespace rnbd::fault
