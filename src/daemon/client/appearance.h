#pragma once
// How one volume is to appear on this machine, and where it does. Plain values.

#include <cstdint>
#include <optional>
#include <string>

#include "frontend/fuse/loop_device.h"

namespace rnbd::daemon {

struct Appearance {
  std::string volume;
  std::string session;
  unsigned number = 0;  // N of rnbdN
  bool read_only = false;
  std::string frontend{};  // "ublk", "loop", "fuse", "nbd", "auto"; empty: as configured
  // The tag a new ublk device gets (0: one is chosen), or the one of the device to be taken over.
  std::uint64_t ublk_tag = 0;
  // Set: the ublk device a predecessor left, to be taken over. Fence the predecessor first.
  std::optional<std::uint32_t> ublk_id{};
};

struct UblkPresence {
  std::uint32_t id = 0;
  std::uint64_t tag = 0;
  std::string node;         // "ublkb0"
  std::string device;       // "/dev/ublkb0"
  std::string number_link;  // "/dev/rnbd0"
  std::string name_link;    // "/dev/rnbd/<session>/<volume>"
};

// Where one volume appears. To be handed back to Frontends::detach().
struct Presence {
  std::string export_name;  // NBD; empty: not there
  std::string file_name;    // FUSE; empty: not there
  std::optional<fuse::LoopDevice> loop;
  std::optional<UblkPresence> ublk;

  // The best of them: "ublk", "loop", "fuse", "nbd".
  const char* frontend() const {
    return ublk ? "ublk" : loop ? "loop" : !file_name.empty() ? "fuse" : "nbd";
  }
  // The block device, and the links to it; empty without.
  std::string block_device() const { return ublk ? ublk->device : loop ? loop->device : ""; }
  std::string number_link() const {
    return ublk ? ublk->number_link : loop ? loop->number_link : "";
  }
  std::string name_link() const { return ublk ? ublk->name_link : loop ? loop->name_link : ""; }
};

}  // namespace rnbd::daemon
