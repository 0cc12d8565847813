#pragma once
// A device in memory for tests of frontends: obeys the contract, completes from the loop, can hold
// requests back, fail them, and tells what reached it. Several loops may use it; bytes are the
// tests' to keep apart.

#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "block/device.h"

namespace rnbd::block {

class FakeDevice final : public Device {
 public:
  explicit FakeDevice(std::uint64_t size = 8 << 20, std::uint32_t block_size = 512) : bytes(size) {
    limits_.size = size;
    limits_.logical_block_size = limits_.physical_block_size = block_size;
    limits_.max_discard = limits_.max_write_zeroes = 1 << 30;
    limits_.volatile_cache = limits_.fua = true;
  }
  ~FakeDevice() override { RNBD_ASSERT(queues_.empty()); }

  Limits& limits_for_setup() { return limits_; }
  const std::string& name() const override { return name_; }
  Limits limits() const override { return limits_; }
  Result<std::unique_ptr<Queue>> open_queue(Loop& loop) override {
    if (fail_open) return fail_errno(ENOMEM);
    return std::make_unique<FakeQueue>(*this, loop);
  }

  // Requests wait at the device until let go. Any thread.
  void hold() { held_ = true; }
  void let_go() {
    held_ = false;
    const std::lock_guard lock(mutex_);
    for (FakeQueue* queue : queues_) {
      queue->loop.post([this, queue] {
        if (alive(queue)) queue->loop.defer(queue->run_task);
      });
    }
  }
  std::size_t open_queues() const {
    const std::lock_guard lock(mutex_);
    return queues_.size();
  }

  std::vector<std::byte> bytes;
  std::atomic<bool> fail_open{false};
  std::atomic<int> fail_with{0};  // errno of every request while not 0
  std::atomic<unsigned> reads{0}, writes{0}, flushes{0}, discards{0}, zeroes{0}, fuas{0},
      no_unmaps{0};
  std::atomic<unsigned> waiting{0};  // held now

 private:
  struct FakeQueue final : Queue {
    FakeQueue(FakeDevice& of, Loop& on) : device(of), loop(on) {
      const std::lock_guard lock(device.mutex_);
      device.queues_.push_back(this);
    }
    ~FakeQueue() override {
      RNBD_ASSERT(requests.empty());
      const std::lock_guard lock(device.mutex_);
      std::erase(device.queues_, this);
    }
    void submit(Request& request) override {
      RNBD_ASSERT(loop.on_this_thread());
      requests.push_back(request);
      ++device.waiting;
      loop.defer(run_task);
    }
    void run() {
      for (std::size_t budget = requests.count(); budget > 0 && !device.held_; --budget) {
        Request& request = requests.pop_front();
        --device.waiting;
        request.result = device.execute(request);
        request.done(request);
      }
    }
    FakeDevice& device;
    Loop& loop;
    IntrusiveList<Request> requests;
    Task run_task = Task::of<&FakeQueue::run>(this);
  };

  bool alive(FakeQueue* queue) const {
    const std::lock_guard lock(mutex_);
    for (const FakeQueue* other : queues_) {
      if (other == queue) return true;
    }
    return false;
  }

  std::error_code execute(const Request& request) {
    if (fail_with != 0) return from_errno(fail_with);
    if (const auto error = check(request, limits_)) return error;
    if (limits_.max_transfer != 0 && carries_data(request.op) &&
        request.length > limits_.max_transfer) {
      return from_errno(EINVAL);
    }
    std::byte* at = bytes.data() + request.offset;
    if ((request.flags & kFua) != 0) ++fuas;
    switch (request.op) {
      case Op::read:
        ++reads;
        for (const iovec& part : request.segments) {
          std::memcpy(part.iov_base, at, part.iov_len);
          at += part.iov_len;
        }
        break;
      case Op::write:
        ++writes;
        for (const iovec& part : request.segments) {
          std::memcpy(at, part.iov_base, part.iov_len);
          at += part.iov_len;
        }
        break;
      case Op::flush:
        ++flushes;
        break;
      case Op::discard:
        ++discards;
        std::memset(at, 0xdd,
                    request.length);  // a discard promises nothing about what is read afterwards
        break;
      case Op::write_zeroes:
        ++zeroes;
        if ((request.flags & kNoUnmap) != 0) ++no_unmaps;
        std::memset(at, 0, request.length);
        break;
      case Op::secure_erase:
        return from_errno(EOPNOTSUPP);
    }
    return {};
  }

  std::string name_ = "fake";
  Limits limits_;
  std::atomic<bool> held_{false};
  mutable std::mutex mutex_;
  std::vector<FakeQueue*> queues_;
};

}  // namespace rnbd::block
