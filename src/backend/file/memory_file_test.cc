#include "backend/file/memory_file.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace rnbd::backend {
namespace {

struct MemoryFile : ::testing::Test {
  UniqueFd fd{::memfd_create("memory-file-test", MFD_CLOEXEC)};
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(100'000);
  std::vector<iovec> parts;
  block::Request request;

  void SetUp() override {
    ASSERT_EQ(::ftruncate(fd.get(), 100'000), 0);
    std::iota(bytes.begin(), bytes.end(), std::uint8_t{3});
  }
  std::error_code run(block::Op op, std::uint64_t offset, std::size_t part) {
    parts.clear();
    request.op = op;
    request.offset = offset;
    request.length = bytes.size();
    for (std::size_t at = 0; at < bytes.size(); at += part)
      parts.push_back({bytes.data() + at, std::min(part, bytes.size() - at)});
    parts.push_back({nullptr, 0});
    request.segments = parts;
    return transfer_now(fd.get(), request);
  }
};

TEST_F(MemoryFile, IsRecognised) {
  EXPECT_TRUE(lives_in_memory(fd.get()));
  EXPECT_FALSE(lives_in_memory(0x7fffffff));
}

TEST_F(MemoryFile, TransfersAnyNumberOfSegments) {
  for (const std::size_t part : {std::size_t{17}, std::size_t{4096}, std::size_t{100'000}}) {
    const auto written = bytes;
    EXPECT_FALSE(run(block::Op::write, 0, part));
    bytes.assign(bytes.size(), 0);
    EXPECT_FALSE(run(block::Op::read, 0, part + 1));
    EXPECT_EQ(bytes, written);
  }
}

TEST_F(MemoryFile, EndsWithEioWhereTheFileEnds) {
  EXPECT_EQ(run(block::Op::read, 50'000, 30'000), from_errno(EIO));
}

TEST_F(MemoryFile, ReportsTheErrorOfTheKernel) {
  fd.reset();
  EXPECT_EQ(run(block::Op::read, 0, 4096), from_errno(EBADF));
}

}  // namespace
}  // namespace rnbd::backend
