#pragma once
// A simulated disk for tests: slow by chance, with a volatile cache that a crash loses parts of,
// and strict about its users. What reaches it wrongly (out of range, overlapping writes, after a
// power loss) is counted or refused, never ignored.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "block/device.h"
#include "fabric/sim/world.h"
#include "rnbd/server/exports.h"

namespace rnbd::testing {

using namespace std::chrono_literals;  // NOLINT: tests
using fabric::sim::SimLoop;
using fabric::sim::World;

struct DiskOptions {
  block::Limits limits;
  Duration latency = 200us;  // most
  server::CacheLife cache_life = server::CacheLife::host;
};

inline DiskOptions small_disk(std::uint64_t size = 1 << 20) {
  DiskOptions options;
  options.limits.size = size;
  options.limits.max_discard = options.limits.max_write_zeroes = size;
  options.limits.discard_granularity = 512;
  options.limits.volatile_cache = options.limits.fua = true;
  return options;
}

class Disk {
 public:
  struct Seen {
    block::Op op;
    std::uint8_t flags;
    std::uint64_t offset;
    std::uint64_t length;
    std::vector<std::byte> data;
  };

  Disk(World& world, const DiskOptions& options)
      : world_(world),
        options_(options),
        bytes_(options.limits.size),
        platter_(options.limits.size) {}

  World& world() { return world_; }
  block::Limits& limits() { return options_.limits; }
  DiskOptions& options() { return options_; }
  std::vector<std::byte>& bytes() { return bytes_; }
  void resize(std::uint64_t size) {
    options_.limits.size = size;
    dirty_.erase(dirty_.lower_bound(size / 512), dirty_.end());
    bytes_.resize(size);
    platter_.resize(size);
  }
  // Power is gone: what was not flushed is partly lost, and what still runs never happens.
  void crash() {
    ++life_;
    for (const std::uint64_t block : dirty_) {
      if (world_.chance(2))
        copy_block(platter_, bytes_, block);
      else
        copy_block(bytes_, platter_, block);
    }
    dirty_.clear();
    running_.clear();
  }
  // The next `count` requests that `match` end with `error`.
  void fail_next(std::size_t count, int error,
                 std::function<bool(const block::Request&)> match = {}) {
    failures_ = count;
    failure_ = error;
    failure_match_ = std::move(match);
  }
  void hold(bool held) { held_ = held; }  // nothing completes while held
  std::vector<Seen> seen;                 // in order of submission, when recording
  bool recording = false;
  int overlaps = 0;  // modifying requests submitted over a running one
  int refused = 0;   // requests it must never see
  int queues = 0;
  int queue_error = 0;  // what open_queue fails with
  int forgiven = 0;     // clear_errors()
  std::uint64_t outstanding = 0;

 private:
  friend class DiskQueue;
  struct Running {
    std::uint64_t begin, end;
  };
  void copy_block(std::vector<std::byte>& from, std::vector<std::byte>& to, std::uint64_t block) {
    std::memcpy(to.data() + block * 512, from.data() + block * 512, 512);
  }
  void mark_dirty(std::uint64_t offset, std::uint64_t length) {
    for (std::uint64_t block = offset / 512; block < (offset + length) / 512; ++block)
      dirty_.insert(block);
  }
  void harden(std::uint64_t offset, std::uint64_t length) {
    for (std::uint64_t block = offset / 512; block < (offset + length) / 512; ++block) {
      if (dirty_.erase(block) != 0) copy_block(bytes_, platter_, block);
    }
  }

  World& world_;
  DiskOptions options_;
  std::vector<std::byte> bytes_;    // as read
  std::vector<std::byte> platter_;  // as found after a crash
  std::set<std::uint64_t> dirty_;
  std::list<Running> running_;
  std::uint32_t life_ = 1;
  bool held_ = false;
  std::size_t failures_ = 0;
  int failure_ = 0;
  std::function<bool(const block::Request&)> failure_match_;
};

class DiskQueue final : public block::Queue {
 public:
  DiskQueue(Disk& disk, SimLoop& loop, bool read_only)
      : disk_(disk), loop_(loop), read_only_(read_only), life_(disk.life_) {
    ++disk_.queues;
  }
  ~DiskQueue() override {
    EXPECT_EQ(outstanding_, 0) << "a queue was destroyed with requests under way";
    --disk_.queues;
  }

  void submit(block::Request& request) override {
    EXPECT_TRUE(loop_.on_this_thread());
    ++outstanding_;
    ++disk_.outstanding;
    if (disk_.recording) record(request);
    if (life_ != disk_.life_) return finish_later(request, {}, from_errno(EIO));
    block::Limits limits = disk_.limits();
    limits.read_only = read_only_;
    std::error_code error = block::check(request, limits);
    if (block::carries_data(request.op) && limits.max_transfer != 0 &&
        request.length > limits.max_transfer) {
      error = from_errno(EINVAL);
    }
    if (error) {
      ++disk_.refused;
      return finish_later(request, {}, error);
    }
    if (disk_.failures_ > 0 && (!disk_.failure_match_ || disk_.failure_match_(request))) {
      --disk_.failures_;
      return finish_later(request, {}, from_errno(disk_.failure_));
    }
    auto place = disk_.running_.end();
    const bool writes = block::modifies(request.op);
    if (writes) {
      const std::uint64_t begin = request.offset, end = request.offset + request.length;
      for (const auto& other : disk_.running_)
        disk_.overlaps += other.begin < end && begin < other.end;
      place = disk_.running_.insert(place, {begin, end});
    }
    finish_later(request,
                 [this, &request, place, writes] {
                   if (writes) disk_.running_.erase(place);
                   apply(request);
                 },
                 {});
  }

 private:
  void record(const block::Request& request) {
    Disk::Seen seen{request.op, request.flags, request.offset, request.length, {}};
    if (request.op == block::Op::write) {
      for (const iovec& segment : request.segments) {
        const auto* begin = static_cast<const std::byte*>(segment.iov_base);
        seen.data.insert(seen.data.end(), begin, begin + segment.iov_len);
      }
    }
    disk_.seen.push_back(std::move(seen));
  }

  void finish_later(block::Request& request, std::function<void()> apply_call,
                    std::error_code error) {
    disk_.world().after(
        1ns + disk_.world().some(disk_.options().latency),
        [this, &request, apply_call, error] { finish(request, apply_call, error); }, &loop_);
  }
  void finish(block::Request& request, const std::function<void()>& apply_call,
              std::error_code error) {
    if (disk_.held_) {
      disk_.world().after(
          2ms, [this, &request, apply_call, error] { finish(request, apply_call, error); }, &loop_);
      return;
    }
    --outstanding_;
    --disk_.outstanding;
    request.result = error;
    if (apply_call && life_ == disk_.life_) apply_call();
    if (life_ != disk_.life_) request.result = from_errno(EIO);
    request.done(request);
  }

  void apply(block::Request& request) {
    std::byte* at = disk_.bytes_.data() + request.offset;
    switch (request.op) {
      case block::Op::read:
        for (const iovec& segment : request.segments) {
          std::memcpy(segment.iov_base, at, segment.iov_len);
          at += segment.iov_len;
        }
        return;
      case block::Op::write:
        for (const iovec& segment : request.segments) {
          std::memcpy(at, segment.iov_base, segment.iov_len);
          at += segment.iov_len;
        }
        break;
      case block::Op::flush:
        return flush();
      case block::Op::discard:
      case block::Op::secure_erase:
      case block::Op::write_zeroes:
        std::memset(at, 0, request.length);
        break;
    }
    disk_.mark_dirty(request.offset, request.length);
    if (!disk_.limits().volatile_cache || (request.flags & block::kFua) != 0)
      disk_.harden(request.offset, request.length);
  }
  void flush() { disk_.harden(0, disk_.limits().size); }

  Disk& disk_;
  SimLoop& loop_;
  const bool read_only_;
  const std::uint32_t life_;
  int outstanding_ = 0;
};

// What an opener hands out: a handle on a disk.
class DiskDevice final : public block::Device {
 public:
  DiskDevice(Disk& disk, std::string name, bool read_only)
      : disk_(disk), name_(std::move(name)), read_only_(read_only) {}
  const std::string& name() const override { return name_; }
  block::Limits limits() const override {
    block::Limits limits = disk_.limits();
    limits.read_only = read_only_;
    return limits;
  }
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override {
    if (disk_.queue_error != 0) return fail_errno(disk_.queue_error);
    return std::make_unique<DiskQueue>(disk_, static_cast<SimLoop&>(loop), read_only_);
  }
  void clear_errors() override { ++disk_.forgiven; }

 private:
  Disk& disk_;
  const std::string name_;
  const bool read_only_;
};

// Opens disks by name; a name starting with "/" is the same disk without it. Takes its time.
class DiskOpener final : public server::DeviceOpener {
 public:
  explicit DiskOpener(World& world) : world_(world) {}
  ~DiskOpener() override { EXPECT_EQ(open_devices, 0); }

  void add(const std::string& name, Disk& disk) { disks_[name] = &disk; }
  void fail_opens(int error) { error_ = error; }  // 0: no more
  void hold(bool held) { held_ = held; }
  int open_devices = 0;
  int opens = 0;
  int looks = 0;
  server::AccessMode last_mode = server::AccessMode::rw;
  std::string last_session;

  void open(const std::string& session_name, const std::string& device_name,
            server::AccessMode mode, Loop& loop,
            std::function<void(Result<server::OpenedDevice>)> done) override {
    ++opens;
    last_mode = mode;
    last_session = session_name;
    answer_later([this, device_name, mode, done] { done(find(device_name, mode)); }, loop);
  }
  void look(block::Device& device, Loop& loop,
            std::function<void(Result<std::uint64_t>)> done) override {
    ++looks;
    answer_later([size = device.refresh_size(), done] { done(size); }, loop);
  }
  void close(std::unique_ptr<block::Device> device, Loop& loop,
             std::function<void()> done) override {
    world_.after(
        world_.some(300us),
        [this, shared = std::shared_ptr<block::Device>(std::move(device)), done] {
          --open_devices;
          done();
        },
        &static_cast<SimLoop&>(loop));
  }

 private:
  void answer_later(std::function<void()> call, Loop& loop) {
    world_.after(
        world_.some(300us), [this, call, &loop] { held_ ? answer_later(call, loop) : call(); },
        &static_cast<SimLoop&>(loop));
  }
  Result<server::OpenedDevice> find(const std::string& device_name, server::AccessMode mode) {
    const std::string name = device_name.starts_with('/') ? device_name.substr(1) : device_name;
    if (error_ != 0) return fail_errno(error_);
    const auto found = disks_.find(name);
    if (found == disks_.end()) return fail_errno(ENOENT);
    ++open_devices;
    server::OpenedDevice opened;
    opened.device =
        std::make_unique<DiskDevice>(*found->second, name, mode == server::AccessMode::ro);
    opened.identity = "disk:" + name;
    opened.place = "/dev/" + name;
    opened.cache_life = found->second->options().cache_life;
    return opened;
  }

  World& world_;
  std::map<std::string, Disk*> disks_;
  int error_ = 0;
  bool held_ = false;
};

}  // namespace rnbd::testing
