#pragma once
// A disk in a file mapped shared: outlives the daemon that serves it, so that tests can kill that.
// Every request takes a moment, so that some are always under way.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "base/assert.h"
#include "block/device.h"

namespace rnbd::ublk::testing {

class SharedDevice final : public block::Device {
 public:
  SharedDevice(const std::string& file, Duration takes) : takes_(takes) {
    const int fd = ::open(file.c_str(), O_RDWR | O_CLOEXEC);
    RNBD_ASSERT(fd >= 0);
    struct stat status {};
    ::fstat(fd, &status);
    limits_.size = static_cast<std::uint64_t>(status.st_size);
    limits_.physical_block_size = 4096;
    limits_.max_write_zeroes = limits_.size;
    void* memory = ::mmap(nullptr, limits_.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    RNBD_ASSERT(memory != MAP_FAILED);
    memory_ = static_cast<std::byte*>(memory);
    ::close(fd);
  }
  ~SharedDevice() override { ::munmap(memory_, limits_.size); }
  const std::string& name() const override { return name_; }
  block::Limits limits() const override { return limits_; }
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override {
    return std::make_unique<SlowQueue>(*this, loop);
  }

 private:
  struct SlowQueue final : block::Queue {
    SlowQueue(SharedDevice& of, Loop& on)
        : device(of), timer(Timer::of<&SlowQueue::run>(on, this)) {}
    void submit(block::Request& request) override {
      waiting.push_back(request);
      if (!timer.armed()) timer.arm_after(device.takes_);
    }
    void run() {
      IntrusiveList<block::Request> due;
      due.splice_back(waiting);
      while (!due.empty()) {
        block::Request& request = due.pop_front();
        request.result = device.execute(request);
        request.done(request);
      }
    }
    SharedDevice& device;
    Timer timer;
    IntrusiveList<block::Request> waiting;
  };
  std::error_code execute(const block::Request& request) {
    if (const auto error = block::check(request, limits_)) return error;
    std::byte* at = memory_ + request.offset;
    if (request.op == block::Op::write_zeroes) std::memset(at, 0, request.length);
    for (const iovec& part : request.segments) {
      if (request.op == block::Op::read) std::memcpy(part.iov_base, at, part.iov_len);
      if (request.op == block::Op::write) std::memcpy(at, part.iov_base, part.iov_len);
      at += part.iov_len;
    }
    return {};
  }

  const std::string name_ = "shared";
  const Duration takes_;
  block::Limits limits_;
  std::byte* memory_ = nullptr;
};

}  // namespace rnbd::ublk::testing
