#pragma once
// For tests of backends: a reactor on the test's thread, a queue on it, and requests made and
// waited for in one line each.

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "block/device.h"
#include "reactor/testing.h"

namespace rnbd::backend::testing {

struct TestRequest : block::Request {
  bool finished = false;
  int completions = 0;
  std::vector<iovec> parts;
  static void on_done(block::Request& request) {
    auto& self = static_cast<TestRequest&>(request);
    self.finished = true;
    ++self.completions;
  }
};

class DiskUser {
 public:
  explicit DiskUser(block::Device& device, Duration spin_max = Duration::zero())
      : reactor_(std::move(*Reactor::create({.spin_max = spin_max}))) {
    auto opened = device.open_queue(*reactor_);
    EXPECT_TRUE(opened.has_value());
    queue_ = std::move(*opened);
  }

  std::unique_ptr<TestRequest> make(block::Op op, std::uint64_t offset, std::uint64_t length,
                                    int flags = 0) {
    auto request = std::make_unique<TestRequest>();
    request->op = op;
    request->offset = offset;
    request->length = length;
    request->flags = static_cast<std::uint8_t>(flags);
    request->done = &TestRequest::on_done;
    return request;
  }
  void set_parts(TestRequest& request, std::vector<iovec> parts) {
    request.parts = std::move(parts);
    request.segments = request.parts;
  }
  void submit(TestRequest& request) {
    queue_->submit(request);
    EXPECT_FALSE(request.finished) << "done from inside submit()";
  }
  std::error_code run(TestRequest& request) {
    submit(request);
    EXPECT_TRUE(rnbd::testing::run_until(*reactor_, [&] { return request.finished; }));
    EXPECT_EQ(request.completions, 1);
    return request.result;
  }

  std::error_code read(std::uint64_t offset, void* memory, std::size_t length) {
    auto request = make(block::Op::read, offset, length);
    set_parts(*request, {{memory, length}});
    return run(*request);
  }
  std::error_code write(std::uint64_t offset, const void* memory, std::size_t length,
                        int flags = 0) {
    auto request = make(block::Op::write, offset, length, flags);
    set_parts(*request, {{const_cast<void*>(memory), length}});
    return run(*request);
  }
  std::error_code flush() { return run(*make(block::Op::flush, 0, 0)); }
  std::error_code range(block::Op op, std::uint64_t offset, std::uint64_t length, int flags = 0) {
    return run(*make(op, offset, length, flags));
  }

  Reactor& reactor() { return *reactor_; }
  block::Queue& queue() { return *queue_; }

 private:
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<block::Queue> queue_;
};

// Memory fit for direct I/O, or `skew` bytes off.
class Buffer {
 public:
  explicit Buffer(std::size_t size, int fill = 0, std::size_t skew = 0)
      : size_(size),
        raw_(std::aligned_alloc(4096, (size + skew + 4095) / 4096 * 4096)),
        skew_(skew) {
    std::memset(data(), fill, size);
  }
  ~Buffer() { std::free(raw_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  std::byte* data() { return static_cast<std::byte*>(raw_) + skew_; }
  std::size_t size() const { return size_; }
  void fill_pattern(std::uint64_t seed) {
    for (std::size_t i = 0; i < size_; ++i) {
      seed = seed * 6364136223846793005U + 1442695040888963407U;
      data()[i] = static_cast<std::byte>(seed >> 56);
    }
  }
  bool all(int value) {
    for (std::size_t i = 0; i < size_; ++i) {
      if (data()[i] != static_cast<std::byte>(value)) return false;
    }
    return true;
  }
  bool same(Buffer& other) {
    return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
  }

 private:
  std::size_t size_;
  void* raw_;
  std::size_t skew_;
};

}  // namespace rnbd::backend::testing
