#pragma once
// Loop devices over volume files: with root, a volume becomes a real block device with direct I/O.
//   /dev/rnbd<N>                     link to /dev/loop<M>, N the lowest free number
//   /dev/rnbd/<session>/<volume>     link to the same; '/' in either name becomes '!' as in sysfs
// Every loop ioctl may wait for the volume file, which a reactor of this process serves. So each
// operation runs on a thread of its own and calls back through `home.post`; a volume that hangs
// holds up no other. Use and destroy on the thread of `home`.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/loop.h"

namespace rnbd::fuse {

struct LoopOptions {
  std::string device_directory = "/dev";  // where loop nodes are
  std::string link_directory{};           // where links are made; empty: there as well
  bool links = true;
  // How long detach() waits for somebody who has the device open for a moment (udev reading
  // labels).
  Duration busy_wait = std::chrono::seconds(1);
};

struct LoopSpec {
  std::string file;     // the volume's file
  std::string session;  // for the links
  std::string volume;
  std::uint32_t block_size = 512;  // logical; loop takes 512 to 4096
  unsigned number = 0;             // N of /dev/rnbd<N> if it is free; else the lowest that is
  bool read_only = false;
};

// An attached loop device. A plain value: hand it back to detach().
struct LoopDevice {
  unsigned number = 0;      // M of /dev/loopM
  std::string device;       // "/dev/loopM"
  std::string file;         // what it is attached to
  std::string number_link;  // "/dev/rnbdN"; empty without links
  std::string name_link;    // "/dev/rnbd/<session>/<volume>"; empty without links
};

struct DetachResult {
  std::error_code error;           // EBUSY: see users
  std::vector<std::string> users;  // see base/device_users.h
};

class LoopDevices {
 public:
  explicit LoopDevices(Loop& home, LoopOptions options = {});
  // Joins the threads of operations still under way; their callbacks do not come. They may need the
  // mount's reactor to end: on its thread, close() first.
  ~LoopDevices();
  LoopDevices(const LoopDevices&) = delete;
  LoopDevices& operator=(const LoopDevices&) = delete;

  // EACCES/EPERM without root, ENOENT without loop driver.
  void attach(LoopSpec spec, std::function<void(Result<LoopDevice>)> done);
  // Refuses with EBUSY while mounted, held or open, unless forced: then the links go at once and
  // the kernel lets go of the file when the last user closes the device.
  void detach(LoopDevice device, bool force, std::function<void(DetachResult)> done);
  // The file changed its size: the block device follows.
  void resize(const LoopDevice& device, std::function<void(std::error_code)> done);
  // Clears what a crashed daemon left behind: unused loop devices on files below `directory`, links
  // that lead nowhere. Calls back with the number of devices cleared.
  void clean_up(const std::string& directory, std::function<void(unsigned)> done);

  // Calls back when no operation is under way any more (at once if none is). Start no others.
  void close(std::function<void()> done);

  // False without /dev/loop-control or the right to use it. Any thread.
  static bool available();

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the threads of operations under way
};

}  // namespace rnbd::fuse
