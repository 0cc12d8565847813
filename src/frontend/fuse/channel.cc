#include "frontend/fuse/channel.h"

#include <poll.h>
#include <sys/mman.h>

#include <cerrno>

#include "frontend/fuse/fuse_api.h"

namespace rnbd::fuse {
namespace {

constexpr int kRequestsPerRound = 64;  // then others have their turn

}  // namespace

Result<std::unique_ptr<Channel>> Channel::create(Reactor& reactor, Filesystem& filesystem,
                                                 std::uint32_t inflight_max) {
  const std::size_t bytes = IoSlot::kBytes * inflight_max;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return fail_errno(errno);
  ::madvise(memory, bytes, MADV_DONTDUMP);
  return std::unique_ptr<Channel>(
      new Channel(reactor, filesystem, static_cast<std::byte*>(memory), inflight_max));
}

Channel::Channel(Reactor& reactor, Filesystem& filesystem, std::byte* memory,
                 std::uint32_t inflight_max)
    : reactor_(reactor),
      filesystem_(filesystem),
      memory_(memory),
      memory_bytes_(IoSlot::kBytes * inflight_max) {
  for (std::uint32_t i = 0; i < inflight_max; ++i) {
    slots_.push_back(std::make_unique<IoSlot>(*this, memory + IoSlot::kBytes * i));
    free_.push_back(*slots_.back());
  }
  filesystem_.set_slots(*this, inflight_max);
}

Channel::~Channel() {
  RNBD_ASSERT(in_use_ == 0);
  free_.clear();
  ::munmap(memory_, memory_bytes_);
}

void Channel::start(fuse_session* session, int fd, std::function<void()> on_ended) {
  session_ = session;
  on_ended_ = std::move(on_ended);
  watch_.start(reactor_, fd, POLLIN);
}

void Channel::stop() {
  watch_.stop();
  session_ = nullptr;
}

void Channel::receive() {
  blocked_ = false;
  for (int i = 0; i < kRequestsPerRound; ++i) {
    if (session_ == nullptr || !receive_one()) return;
  }
  reactor_.defer(receive_task_);
}

bool Channel::receive_one() {
  if (free_.empty()) {
    blocked_ = true;
    return false;
  }
  IoSlot& slot = free_.pop_front();
  fuse_buf buffer{};
  buffer.mem = slot.receive_buffer();
  const int got = fuse_session_receive_buf(session_, &buffer);
  if (got <= 0) {
    free_.push_front(slot);
    if (got == -EINTR) return true;
    if (got != -EAGAIN) {
      stop();
      on_ended_();
    }
    return false;
  }
  current_ = &slot;
  fuse_session_process_buf(session_, &buffer);
  if (current_ != nullptr) free_.push_front(slot);
  current_ = nullptr;
  return true;
}

IoSlot& Channel::claim() {
  RNBD_ASSERT(current_ != nullptr);
  IoSlot& slot = *current_;
  current_ = nullptr;
  ++in_use_;
  return slot;
}

void Channel::on_slot_done(IoSlot& slot, Volume& volume) {
  free_.push_front(slot);
  --in_use_;
  if (blocked_) reactor_.defer(receive_task_);
  filesystem_.request_done(volume);
  if (in_use_ == 0 && on_idle_) on_idle_();
}

}  // namespace rnbd::fuse
