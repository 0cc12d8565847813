#pragma once
// What the mount shows: one directory with a file per volume. Answers the small requests at once
// and starts the large ones in the slot they arrived in. One reactor; libfuse calls it through
// operations().

#include <map>
#include <string>
#include <vector>

#include "frontend/fuse/io_slot.h"
#include "frontend/fuse/volume.h"
#include "reactor/reactor.h"

struct fuse_lowlevel_ops;

namespace rnbd::fuse {

class SlotSource {
 public:
  virtual ~SlotSource() = default;
  virtual IoSlot&
  claim() = 0;  // the slot the request being handled arrived in; its handler keeps it
};

class Filesystem final {
 public:
  explicit Filesystem(Reactor& reactor);
  ~Filesystem();
  void set_slots(SlotSource& slots, std::uint32_t inflight_max);
  static const fuse_lowlevel_ops& operations();  // userdata is the Filesystem

  Result<void> add(std::string name, bool read_only, block::Device& device);
  void remove(const std::string& name, std::function<void(std::error_code)> done);
  std::uint32_t open_count(const std::string& name) const;
  std::vector<std::string> names() const;
  void request_done(Volume& volume);
  // The kernel has let go of the mount: nothing is open any more.
  void disconnected();
  bool empty() const { return volumes_.empty(); }

 private:
  friend struct Operations;
  static constexpr std::uint64_t kFirstInode = 16;
  Volume* find(const std::string& name) const;
  Volume* find(std::uint64_t inode) const;
  void settle(Volume& volume);

  Reactor& reactor_;
  SlotSource* slots_ = nullptr;
  std::uint32_t inflight_max_ = 0;
  std::uint64_t next_inode_ =
      kFirstInode;  // never used again: the kernel may still know an old one
  std::map<std::uint64_t, std::unique_ptr<Volume>> volumes_;
  timespec created_{};
};

}  // namespace rnbd::fuse
