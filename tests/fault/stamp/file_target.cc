// A file or a block device, through an io_uring of its own, with direct I/O where it is possible.

#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/assert.h"
#include "base/unique_fd.h"
#include "stamp/target.h"

namespace rnbd::fault {
namespace {

class FileTarget final : public Target {
 public:
  FileTarget(UniqueFd fd, TargetHandler& handler) : fd_(std::move(fd)), handler_(handler) {}
  ~FileTarget() override {
    if (ring_made_) io_uring_queue_exit(&ring_);
  }

  std::error_code start(unsigned depth);
  Abilities abilities() const override { return abilities_; }
  bool ready() const override { return true; }
  void submit(Io& io) override;
  int descriptor() const override { return event_.get(); }
  short events() const override { return POLLIN; }
  void work(short revents) override;
  std::uint64_t reconnects() const override { return 0; }

 private:
  UniqueFd fd_;
  UniqueFd event_;
  TargetHandler& handler_;
  Abilities abilities_;
  bool ring_made_ = false;
  io_uring ring_{};
};

std::error_code FileTarget::start(unsigned depth) {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) return from_errno(errno);
  if (S_ISBLK(status.st_mode)) {
    if (::ioctl(fd_.get(), BLKGETSIZE64, &abilities_.size) != 0) return from_errno(errno);
  } else {
    abilities_.size = static_cast<std::uint64_t>(status.st_size);
  }
  abilities_.zeroes = true;
  abilities_.trim = true;
  if (const int error = io_uring_queue_init(depth * 2, &ring_, 0)) return from_errno(-error);
  ring_made_ = true;
  event_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!event_) return from_errno(errno);
  if (const int error = io_uring_register_eventfd(&ring_, event_.get())) return from_errno(-error);
  return {};
}

void FileTarget::submit(Io& io) {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  RNBD_ASSERT(sqe != nullptr);  // twice the depth, and each is submitted at once
  const int fd = fd_.get();
  switch (io.kind) {
    case Io::Kind::read:
      io_uring_prep_read(sqe, fd, io.data, io.length, io.offset);
      break;
    case Io::Kind::write:
      io_uring_prep_write(sqe, fd, io.data, io.length, io.offset);
      sqe->rw_flags = io.fua ? RWF_DSYNC : 0;
      break;
    case Io::Kind::zeroes:
      io_uring_prep_fallocate(sqe, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(io.offset), io.length);
      break;
    case Io::Kind::trim:
      io_uring_prep_fallocate(sqe, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(io.offset), io.length);
      break;
    case Io::Kind::flush:
      io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
      break;
  }
  io_uring_sqe_set_data(sqe, &io);
  RNBD_ASSERT(io_uring_submit(&ring_) == 1);
}

void FileTarget::work(short revents) {
  if (revents & POLLIN) {
    eventfd_t count = 0;
    (void)::eventfd_read(event_.get(), &count);
  }
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) == 0 && cqe) {
    Io& io = *static_cast<Io*>(io_uring_cqe_get_data(cqe));
    const int result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    const bool moves_bytes = io.kind == Io::Kind::read || io.kind == Io::Kind::write;
    const bool short_of =
        moves_bytes && result >= 0 && static_cast<std::uint32_t>(result) < io.length;
    handler_.on_done(io, result < 0 ? -result : short_of ? EIO : 0);
  }
}

}  // namespace

Result<std::unique_ptr<Target>> open_file_target(const std::string& path, TargetHandler& handler,
                                                 unsigned depth) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  if (!fd && errno == EINVAL) fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return fail_errno(errno);
  auto target = std::make_unique<FileTarget>(std::move(fd), handler);
  if (const std::error_code error = target->start(depth)) return fail(error);
  return target;
}

}  // namespace rnbd::fault
