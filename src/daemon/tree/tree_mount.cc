#include "daemon/tree/tree_mount.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>

#include "daemon/admin/runtime.h"
#include "daemon/tree/fuse_tree.h"
#include "frontend/fuse/mountpoint.h"

namespace rnbd::daemon {
namespace {

constexpr int kRequestsPerRound = 64;  // then answers have their turn

}  // namespace

TreeMount::~TreeMount() {
  unmount();
  std::free(buffer_);
}

std::error_code TreeMount::lock() {
  if (lock_) return {};
  const std::string directory = std::filesystem::path(mountpoint_).parent_path();
  if (std::error_code error = make_directory(directory)) return error;
  const std::string name = mountpoint_ + ".lock";
  UniqueFd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return from_errno(errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) return from_errno(errno);
  lock_ = std::move(fd);
  return {};
}

std::error_code TreeMount::mount(FuseTree& tree, bool for_all_users) {
  if (std::error_code error = lock()) return error;
  if (!UniqueFd(::open("/dev/fuse", O_RDWR | O_CLOEXEC))) return from_errno(errno);
  auto place = fuse::prepare_mountpoint(mountpoint_);
  if (!place) return place.error();
  mountpoint_ = std::move(*place);
  std::string program = "rnbd", dash_o = "-o";
  std::string words = "fsname=rnbd-sysfs,subtype=rnbd,default_permissions,nosuid,nodev,noexec";
  if (for_all_users) words += ",allow_other";
  std::array<char*, 4> arguments{program.data(), dash_o.data(), words.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(3, arguments.data());
  session_ = fuse_session_new(&args, &FuseTree::operations(), sizeof(fuse_lowlevel_ops), &tree);
  fuse_opt_free_args(&args);
  if (session_ == nullptr) return from_errno(EINVAL);
  if (fuse_session_mount(session_, mountpoint_.c_str()) != 0) {
    fuse_session_destroy(session_);
    session_ = nullptr;
    return from_errno(EPERM);  // libfuse has said why in the log
  }
  const int descriptor = fd();
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  return {};
}

void TreeMount::unmount() {
  if (session_ == nullptr) return;
  fuse_session_exit(session_);
  fuse_session_unmount(session_);  // closes the device, which ends what waits in the kernel
  fuse::detach_if_dead(mountpoint_);
  fuse_session_destroy(session_);
  session_ = nullptr;
}

int TreeMount::fd() const { return session_ == nullptr ? -1 : fuse_session_fd(session_); }

bool TreeMount::receive() {
  for (int i = 0; i < kRequestsPerRound; ++i) {
    fuse_buf buffer{};
    buffer.mem = buffer_;
    const int got = fuse_session_receive_buf(session_, &buffer);
    buffer_ = buffer.mem;
    if (got == -EINTR) continue;
    if (got == -EAGAIN) return true;
    if (got <= 0) return false;
    fuse_session_process_buf(session_, &buffer);
  }
  return true;
}

}  // namespace rnbd::daemon
