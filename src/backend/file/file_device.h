#pragma once
// A regular file or a block device as a disk, through the io_uring of the loops that use it. Direct
// I/O where the storage allows it for every request the limits allow, else through the page cache;
// which one is logged at open. Any number of reactors; each queue lives on one.
//
// One writer: a writable file is locked exclusively (flock), a writable block device is opened
// O_EXCL. The kernel keeps both until the last request in flight has ended, so a successor never
// overlaps us. Errors are sticky: once a flush or a FUA write has failed, what had been written
// before may be lost and no later flush can tell, so every later flush and FUA fails with EIO until
// clear_errors().

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "backend/file/file_geometry.h"
#include "base/unique_fd.h"
#include "block/device.h"

namespace rnbd::backend {

class BlockingWorker;

struct FileOptions {
  enum class Cache {
    automatic,
    direct,
    buffered
  };                           // `direct` fails with EINVAL where it is not possible
  std::string name = {};       // for people and logs; open_path() takes the path if empty
  bool read_only = false;      // opened O_RDONLY
  bool shared_lock = false;    // readers: refuse to run beside a writer of the file
  bool write_through = false;  // every write is stable when it completes; no volatile cache
  Cache cache = Cache::automatic;
  std::uint32_t logical_block_size = 512;  // of a regular file; a block device has its own
};

class FileDevice final : public block::Device {
 public:
  // `fd` only says which file: it is opened again through /proc/self/fd with exactly the rights
  // needed, so it may be O_PATH. EBUSY when somebody else writes (or reads under a lock); ENOTBLK
  // for a pipe, a directory...
  static Result<std::unique_ptr<FileDevice>> open(UniqueFd fd, FileOptions options);
  static Result<std::unique_ptr<FileDevice>> open_path(const std::string& path,
                                                       FileOptions options);
  ~FileDevice() override;

  const std::string& name() const override { return options_.name; }
  block::Limits limits() const override;
  // EINVAL unless `loop` is a Reactor.
  Result<std::unique_ptr<block::Queue>> open_queue(Loop& loop) override;

  const std::string& identity() const { return geometry_.identity; }
  bool direct() const { return direct_; }
  Result<std::uint64_t> refresh_size() override;

  bool poisoned() const { return poisoned_.load(std::memory_order_relaxed); }
  void clear_errors() override { poisoned_.store(false, std::memory_order_relaxed); }

  // For tests: sees every result of the ring (`opcode` is IORING_OP_*) and may replace it. Set
  // before use.
  using ResultHook = std::function<int(unsigned opcode, int result)>;
  void set_result_hook(ResultHook hook) { hook_ = std::move(hook); }

 private:
  friend class FileQueue;
  FileDevice(UniqueFd fd, FileOptions options, FileGeometry geometry, bool direct);
  void set_size(std::uint64_t size);
  void poison(const char* what, int error);

  UniqueFd fd_;
  FileOptions options_;
  FileGeometry geometry_;
  bool direct_;
  std::atomic<std::uint64_t> size_{0};
  std::atomic<bool> poisoned_{false};
  // What the file system turned out not to have.
  std::atomic<bool> no_punch_hole_{false};
  std::atomic<bool> no_zero_range_{false};
  ResultHook hook_;
  std::unique_ptr<BlockingWorker> worker_;  // block devices: discards, which have no ring operation
};

}  // namespace rnbd::backend
