#include "frontend/fuse/loop_control.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/unique_fd.h"

namespace rnbd::fuse {
namespace {

constexpr unsigned kLoopMajor = 7;

std::string sysfs(unsigned number) { return "/sys/block/loop" + std::to_string(number); }

Result<UniqueFd> open_path(const std::string& path, int flags) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd) return fail_errno(errno);
  return fd;
}

// Where /dev is no devtmpfs (containers) the node of a new device is ours to make.
Result<UniqueFd> open_loop(const std::string& path, unsigned number) {
  auto fd = open_path(path, O_RDWR);
  if (fd || fd.error() != from_errno(ENOENT)) return fd;
  ::mknod(path.c_str(), S_IFBLK | 0600, makedev(kLoopMajor, number));
  return open_path(path, O_RDWR);
}

std::error_code configure(int loop, int file, const LoopTarget& target) {
  loop_config config{};
  config.fd = static_cast<std::uint32_t>(file);
  config.block_size = target.block_size;
  config.info.lo_flags = LO_FLAGS_DIRECT_IO | LO_FLAGS_PARTSCAN;
  if (target.read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), target.file.c_str(),
               LO_NAME_SIZE - 1);
  return ::ioctl(loop, LOOP_CONFIGURE, &config) == 0 ? std::error_code{} : from_errno(errno);
}

}  // namespace

Result<unsigned> loop_attach(const LoopTarget& target) {
  constexpr int kAttempts = 64;  // others look for a free device at the same time
  auto control = open_path(target.device_directory + "/loop-control", O_RDWR);
  if (!control) return fail(control.error());
  // O_DIRECT, since older kernels take the loop's direct I/O from here.
  auto file = open_path(target.file, (target.read_only ? O_RDONLY : O_RDWR) | O_DIRECT);
  if (!file) return fail(file.error());
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const int number = ::ioctl(control->get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail_errno(errno);
    const auto unsigned_number = static_cast<unsigned>(number);
    auto loop =
        open_loop(target.device_directory + "/loop" + std::to_string(number), unsigned_number);
    if (!loop) return fail(loop.error());
    const std::error_code error = configure(loop->get(), file->get(), target);
    if (!error) return unsigned_number;
    if (error != from_errno(EBUSY)) return fail(error);
  }
  return fail_errno(EBUSY);
}

std::error_code loop_clear(const std::string& device, bool force) {
  // An exclusive open fails while mounted or held, and keeps others from mounting until we are
  // done.
  auto loop = open_path(device, O_RDONLY | (force ? 0 : O_EXCL));
  if (!loop) return loop.error() == from_errno(ENXIO) ? std::error_code{} : loop.error();
  if (::ioctl(loop->get(), LOOP_CLR_FD) != 0 && errno != ENXIO) return from_errno(errno);
  return {};
}

std::error_code loop_resize(const std::string& device) {
  auto loop = open_path(device, O_RDONLY);
  if (!loop) return loop.error();
  return ::ioctl(loop->get(), LOOP_SET_CAPACITY) == 0 ? std::error_code{} : from_errno(errno);
}

std::optional<std::string> loop_backing_file(unsigned number) {
  std::ifstream file(sysfs(number) + "/loop/backing_file");
  std::string path;
  if (!file || !std::getline(file, path)) return std::nullopt;
  return path;
}

std::vector<unsigned> loop_numbers() {
  std::vector<unsigned> numbers;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", error)) {
    const std::string name = entry.path().filename();
    unsigned number = 0;
    if (std::sscanf(name.c_str(), "loop%u", &number) == 1) numbers.push_back(number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace rnbd::fuse
