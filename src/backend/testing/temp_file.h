#pragma once
// For the tests of the file backend: a file of their own, and devices over it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>

#include "backend/file/file_device.h"
#include "backend/testing/disk_user.h"

namespace rnbd::backend::testing {

inline constexpr std::uint64_t kMiB = 1 << 20;

// A file in a directory of its own, gone afterwards.
class TempFile {
 public:
  explicit TempFile(std::uint64_t size = 8 * kMiB, const char* where = nullptr) {
    const char* tmp = where != nullptr ? where : std::getenv("TMPDIR");
    path_ = std::string(tmp != nullptr ? tmp : "/tmp") + "/rnbd-file-test-XXXXXX";
    fd_.reset(::mkstemp(path_.data()));
    EXPECT_TRUE(fd_);
    resize(size);
  }
  ~TempFile() { ::unlink(path_.c_str()); }
  void resize(std::uint64_t size) {
    EXPECT_EQ(::ftruncate(fd_.get(), static_cast<off_t>(size)), 0);
  }
  std::uint64_t allocated() const {
    struct stat status {};
    EXPECT_EQ(::fstat(fd_.get(), &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  // What is in the file as everybody else sees it.
  void peek(std::uint64_t offset, Buffer& into) const {
    EXPECT_EQ(::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset)),
              static_cast<ssize_t>(into.size()));
  }
  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }

 private:
  std::string path_;
  UniqueFd fd_;
};

inline std::unique_ptr<FileDevice> open_device(const TempFile& file, FileOptions options = {}) {
  auto device = FileDevice::open_path(file.path(), options);
  EXPECT_TRUE(device.has_value()) << device.error().message();
  return std::move(*device);
}

inline std::error_code error_of(const Result<std::unique_ptr<FileDevice>>& result) {
  return result ? std::error_code{} : result.error();
}

}  // namespace rnbd::backend::testing
