#pragma once
// One way to a device: requests go in, each ends once with an error number (0: it succeeded). Lives
// on the checker's only thread.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"

namespace rnbd::fault {

using Clock = std::chrono::steady_clock;

struct Io {
  enum class Kind { read, write, zeroes, trim, flush };
  Kind kind = Kind::read;
  bool fua = false;
  std::uint64_t offset = 0;
  std::uint32_t length = 0;
  std::byte* data = nullptr;  // 4096-aligned, at least `length` bytes, until the request ended
};

class TargetHandler {
 public:
  virtual ~TargetHandler() = default;
  // From Target::work() only.
  virtual void on_done(Io& io, int error) = 0;
};

struct Abilities {
  std::uint64_t size = 0;
  bool zeroes = false;
  bool trim = false;
};

class Target {
 public:
  virtual ~Target() = default;
  // Known from the first time it is ready().
  virtual Abilities abilities() const = 0;
  // False while there is no connection; then nothing may be submitted.
  virtual bool ready() const = 0;
  virtual void submit(Io& io) = 0;
  // What to poll for, -1: nothing now.
  virtual int descriptor() const = 0;
  virtual short events() const = 0;
  // Moves on: `revents` of the last poll (0: just time). Completions are told from here.
  virtual void work(short revents) = 0;
  virtual std::uint64_t reconnects() const = 0;
};

struct TargetOptions {
  // When the connection is gone, requests end with ENOTCONN and it is made anew, for ever.
  bool reconnect = false;
};

// NBD URI, through libnbd.
Result<std::unique_ptr<Target>> open_nbd_target(const std::string& uri, TargetHandler& handler,
                                                TargetOptions options);
// File or block device, through io_uring with direct I/O.
Result<std::unique_ptr<Target>> open_file_target(const std::string& path, TargetHandler& handler,
                                                 unsigned depth);

}  // namespace rnbd::fault
