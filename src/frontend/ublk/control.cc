#include "frontend/ublk/control.h"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/unique_fd.h"

namespace rnbd::ublk {
namespace {

constexpr std::uint16_t kNoQueue = 0xffff;
constexpr std::size_t kBufferBytes = 512;  // the largest structure a command reads or writes

bool unknown_command(const std::error_code& error) {
  return error == from_errno(EOPNOTSUPP) || error == from_errno(EINVAL) ||
         error == from_errno(ENOTTY);
}

}  // namespace

// What a command in the kernel may still use.
struct Control::Ring {
  ~Ring() {
    if (made) io_uring_queue_exit(&uring);
  }
  UniqueFd device;
  io_uring uring{};
  bool made = false;
  bool outstanding = false;
  alignas(8) std::array<std::byte, kBufferBytes> buffer{};
};

Result<Control> Control::open() {
  Control control;
  control.ring_ = std::make_unique<Ring>();
  Ring& ring = *control.ring_;
  ring.device.reset(::open("/dev/ublk-control", O_RDWR | O_CLOEXEC));
  if (!ring.device) return fail_errno(errno);
  const int made = io_uring_queue_init(4, &ring.uring, IORING_SETUP_SQE128);
  if (made < 0) return fail_errno(-made);
  ring.made = true;
  control.ioctl_encoded_ = true;
  ublksrv_ctrl_cmd words = control.with_buffer(0xffffffff, sizeof(std::uint64_t));
  const auto error = control.run(abi::kGetFeatures, words, kLimit);
  if (!error) {
    std::memcpy(&control.features_, ring.buffer.data(), sizeof control.features_);
  } else if (unknown_command(error)) {
    control.ioctl_encoded_ = false;  // before Linux 6.5 both encodings or the old one only
  } else {
    return fail(error);
  }
  return control;
}

Control::Control(Control&&) noexcept = default;
Control& Control::operator=(Control&&) noexcept = default;

Control::~Control() {
  // The kernel may still write to the buffer: it stays.
  if (outstanding()) static_cast<void>(ring_.release());
}

bool Control::outstanding() const { return ring_ && ring_->outstanding; }

ublksrv_ctrl_cmd Control::with_buffer(std::uint32_t id, std::size_t bytes) {
  RNBD_ASSERT(bytes <= kBufferBytes);
  ublksrv_ctrl_cmd words{};
  words.dev_id = id;
  words.queue_id = kNoQueue;
  words.len = static_cast<std::uint16_t>(bytes);
  words.addr = reinterpret_cast<std::uintptr_t>(ring_->buffer.data());
  return words;
}

std::error_code Control::run(std::uint32_t command, const ublksrv_ctrl_cmd& words, Duration limit) {
  if (ring_->outstanding) return from_errno(EBUSY);
  io_uring_sqe* entry = io_uring_get_sqe(&ring_->uring);
  RNBD_ASSERT(entry != nullptr);
  std::memset(static_cast<void*>(entry), 0, 128);
  entry->opcode = IORING_OP_URING_CMD;
  entry->fd = ring_->device.get();
  entry->cmd_op = abi::encoded(command, ioctl_encoded_);
  std::memcpy(static_cast<void*>(entry->cmd), &words, sizeof words);
  const int submitted = io_uring_submit(&ring_->uring);
  if (submitted < 0) return from_errno(-submitted);
  ring_->outstanding = true;
  return wait(limit);
}

std::error_code Control::wait(Duration limit) {
  if (!ring_->outstanding) return {};
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const Duration left =
        std::max<Duration>(deadline - std::chrono::steady_clock::now(), Duration::zero());
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
    __kernel_timespec time{};
    time.tv_sec = seconds.count();
    time.tv_nsec = (left - seconds).count();
    io_uring_cqe* done = nullptr;
    const int waited = io_uring_wait_cqe_timeout(&ring_->uring, &done, &time);
    if (waited == -ETIME) return from_errno(ETIMEDOUT);
    if (waited == -EINTR || waited == -EAGAIN) continue;
    if (waited < 0) return from_errno(-waited);
    const int result = done->res;
    io_uring_cqe_seen(&ring_->uring, done);
    ring_->outstanding = false;
    return result < 0 ? from_errno(-result) : std::error_code{};
  }
}

std::error_code Control::add(ublksrv_ctrl_dev_info& info) {
  auto words = with_buffer(info.dev_id, sizeof info);
  std::memcpy(ring_->buffer.data(), &info, sizeof info);
  if (const auto error = run(abi::kAddDev, words, kLimit)) return error;
  std::memcpy(&info, ring_->buffer.data(), sizeof info);
  return {};
}

Result<ublksrv_ctrl_dev_info> Control::info(std::uint32_t id) {
  ublksrv_ctrl_dev_info info{};
  if (const auto error = run(abi::kGetDevInfo, with_buffer(id, sizeof info), kLimit))
    return fail(error);
  std::memcpy(&info, ring_->buffer.data(), sizeof info);
  return info;
}

std::error_code Control::set_params(std::uint32_t id, const ublk_params& params) {
  auto words = with_buffer(id, sizeof params);
  std::memcpy(ring_->buffer.data(), &params, sizeof params);
  return run(abi::kSetParams, words, kLimit);
}

Result<ublk_params> Control::params(std::uint32_t id) {
  ublk_params params{};
  params.len = sizeof params;
  auto words = with_buffer(id, sizeof params);
  std::memcpy(ring_->buffer.data(), &params, sizeof params);
  if (const auto error = run(abi::kGetParams, words, kLimit)) return fail(error);
  std::memcpy(&params, ring_->buffer.data(), sizeof params);
  return params;
}

namespace {
ublksrv_ctrl_cmd plain(std::uint32_t id, std::uint64_t data = 0) {
  ublksrv_ctrl_cmd words{};
  words.dev_id = id;
  words.queue_id = kNoQueue;
  words.data[0] = data;
  return words;
}
std::uint64_t own_pid() { return static_cast<std::uint64_t>(::getpid()); }
}  // namespace

std::error_code Control::start(std::uint32_t id, Duration limit) {
  return run(abi::kStartDev, plain(id, own_pid()), limit);
}
std::error_code Control::end_recovery(std::uint32_t id, Duration limit) {
  return run(abi::kEndUserRecovery, plain(id, own_pid()), limit);
}
std::error_code Control::start_recovery(std::uint32_t id) {
  return run(abi::kStartUserRecovery, plain(id), kLimit);
}
std::error_code Control::update_size(std::uint32_t id, std::uint64_t bytes) {
  if ((features_ & abi::kUpdateSize) == 0) return from_errno(EOPNOTSUPP);
  return run(abi::kUpdateSizeCommand, plain(id, bytes >> abi::kSectorShift), kLimit);
}
std::error_code Control::stop(std::uint32_t id, Duration limit) {
  return run(abi::kStopDev, plain(id), limit);
}

std::error_code Control::del(std::uint32_t id, Duration limit) {
  auto error = run(abi::kDelDevAsync, plain(id), limit);
  if (!unknown_command(error)) return error;
  // Before Linux 6.9. The device goes at once as well; what takes time is the last closer.
  error = run(abi::kDelDev, plain(id), limit);
  return error == from_errno(ETIMEDOUT) ? std::error_code{} : error;
}

}  // namespace rnbd::ublk
