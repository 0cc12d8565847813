#pragma once
// The one block interface: backends and the RNBD client implement it, frontends and the RNBD server
// use it.

#include <cstdint>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/loop.h"
#include "block/request.h"

namespace rnbd::block {

// What a device can do, in bytes. Zero as a maximum means "not supported".
struct Limits {
  std::uint64_t size = 0;                   // multiple of logical_block_size
  std::uint32_t logical_block_size = 512;   // power of two, 512 to 65536
  std::uint32_t physical_block_size = 512;  // power of two, at least logical_block_size
  std::uint32_t max_transfer = 0;  // most bytes of one read or write; 0 = no limit of its own
  std::uint32_t max_segments = 128;
  std::uint64_t max_discard = 0;
  std::uint32_t discard_granularity = 0;
  std::uint32_t discard_alignment = 0;
  std::uint64_t max_write_zeroes = 0;
  std::uint64_t max_secure_erase = 0;
  bool volatile_cache = false;  // completed writes may be lost at power failure until flush or FUA
  bool fua = false;             // honours kFua
  bool read_only = false;
};

// The per-loop door of a device. One thread. Destroy only when no request is outstanding.
class Queue {
 public:
  virtual ~Queue() = default;
  // Takes the request over until done. Never fails itself: errors arrive in request.result.
  virtual void submit(Request& request) = 0;
};

// Called from the device's home loop when something about a device changed.
class DeviceWatcher {
 public:
  virtual ~DeviceWatcher() = default;
  virtual void on_resized(std::uint64_t size_bytes) = 0;
};

// A device. Immutable while it lives, except its size; shared by all loops. Destroy after all its
// queues.
class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;  // for people and logs
  virtual Limits limits() const = 0;            // any thread
  // A queue for `loop`; call on that loop's thread, use and destroy it there.
  virtual Result<std::unique_ptr<Queue>> open_queue(Loop& loop) = 0;
  // Asks what is behind it how big it is now; limits() says so from then on. May block; any thread.
  virtual Result<std::uint64_t> refresh_size() { return limits().size; }
  // Believes in flushes again after one had failed: an administrator's word. Any thread.
  virtual void clear_errors() {}
};

// What `request` violates of `limits`, as the errno a kernel block layer gives: EINVAL for
// alignment and shape, EIO beyond the end, EOPNOTSUPP for an operation without support, EPERM/EROFS
// when read-only.
std::error_code check(const Request& request, const Limits& limits);

}  // namespace rnbd::block
