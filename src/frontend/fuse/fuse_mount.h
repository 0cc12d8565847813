#pragma once
// A mount point in which every volume is a file: size of the device, mode 0600 (0400 read-only),
// read and written at any byte. Direct I/O and no write-back cache, so what a write() returned for
// has been completed by the device; fsync is a flush, O_SYNC writes are FUA, fallocate punches and
// zeroes. Requests go to the device asynchronously, many at a time, on one reactor.
//
// Create, use and destroy on the thread of that reactor (create() may also run before it starts).
// Never touch a path below the mount point from that thread: the answer would have to come from
// itself.

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/device_links.h"
#include "base/error.h"
#include "block/device.h"
#include "reactor/reactor.h"

namespace rnbd::fuse {

struct MountOptions {
  std::string mountpoint;  // created (0700) if missing; a dead mount found there is detached first
  bool allow_other = false;         // other users may reach the files as their mode permits
  std::uint32_t inflight_max = 64;  // requests under way; more wait in the kernel
};

struct VolumeOptions {
  std::string
      name;  // the file name: not empty, "." or "..", at most 255 bytes, no '/' (see file_name())
  bool read_only = false;
};

using rnbd::file_name;  // a volume's path as one file name

class Mount {
 public:
  static Result<std::unique_ptr<Mount>> create(Reactor& reactor, MountOptions options);
  virtual ~Mount() = default;  // unmounted

  // EEXIST when the name is taken, EINVAL when it is no file name. `device` outlives the volume.
  virtual Result<void> add_volume(VolumeOptions options, block::Device& device) = 0;
  // The file vanishes; those who have it open get EIO from now on. `done` comes when the last
  // request has come back and the queue is destroyed (a device that holds its requests is waited
  // for: fail it first). ENOENT in `done` when there is no such volume. Look at open_count() first
  // to be polite.
  virtual void remove_volume(const std::string& name,
                             std::function<void(std::error_code)> done) = 0;
  // Open descriptions of the file (a loop device holds one): not 0 means busy.
  virtual std::uint32_t open_count(const std::string& name) const = 0;
  virtual std::vector<std::string> volumes() const = 0;
  virtual std::string file_path(const std::string& name) const = 0;

  // Detaches the mount point (at once, also when busy), removes every volume, then calls back.
  virtual void unmount(std::function<void()> done) = 0;
  // Somebody else unmounted us: called once, from the loop. unmount() is still to be called.
  virtual void set_on_unmounted(std::function<void()> call) = 0;
  virtual bool mounted() const = 0;
};

}  // namespace rnbd::fuse
