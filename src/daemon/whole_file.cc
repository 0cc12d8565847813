#include "daemon/whole_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/unique_fd.h"

namespace rnbd::daemon {
namespace {

std::error_code write_file(const std::string& path, std::string_view text) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return from_errno(errno);
  while (!text.empty()) {
    const ssize_t n = ::write(fd.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return from_errno(errno);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return ::fsync(fd.get()) != 0 ? from_errno(errno) : std::error_code{};
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t bytes_max) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno);
  std::string text;
  for (;;) {
    char part[65536];
    const ssize_t n = ::read(fd.get(), part, sizeof part);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno);
    if (n == 0) return text;
    text.append(part, static_cast<std::size_t>(n));
    if (text.size() > bytes_max) return fail_errno(EFBIG);
  }
}

std::error_code replace_file(const std::string& path, std::string_view text) {
  const std::string draft = path + ".new";
  if (auto error = write_file(draft, text)) return error;
  if (::rename(draft.c_str(), path.c_str()) != 0) return from_errno(errno);
  std::string directory = std::filesystem::path(path).parent_path();
  if (directory.empty()) directory = ".";
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return from_errno(errno);
  return {};
}

}  // namespace rnbd::daemon
