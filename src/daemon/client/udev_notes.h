#pragma once
// What udev is told of our block devices: a file NODE of KEY=VALUE lines in /run/rnbd/udev, which
// the rules of packaging/udev read, and a "change" from the kernel so that they do. Without it the
// links that we make ourselves are all there is; with it a volume also has names by its content,
// and a unit that mounts can wait for. Touches small files only; any thread.

#include <string>

namespace rnbd::daemon {

struct BlockName {
  std::string node;    // "ublkb0", "loop3"
  std::string device;  // "rnbd0"
  std::string session;
  std::string volume;
};

class UdevNotes final {
 public:
  // `directory` is where they are; empty: nothing is told.
  explicit UdevNotes(std::string directory, std::string sysfs = "/sys")
      : directory_(std::move(directory)), sysfs_(std::move(sysfs)) {}
  // For this machine: nothing where we are not root, or there is no udev, or links are not in /dev.
  static UdevNotes of_system(const std::string& devices_dir);

  // Forgets nodes that are no devices any more: a daemon died before it could.
  void clean_up() const;
  void tell(const BlockName& name) const;
  void forget(const std::string& node) const;

 private:
  const std::string directory_;
  const std::string sysfs_;
};

// The file: nothing of a session's or volume's name can end a line or name another directory.
std::string udev_note(const BlockName& name);

}  // namespace rnbd::daemon
