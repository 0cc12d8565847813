#pragma once
// rnbdtab: which volumes this machine is to have mapped, one line each, as fstab says it of file
// systems. Pure: the bytes may come from anyone.
//
//   # name  what                                                options
//   db      rnbd://10.0.0.1/db                                  hold=5m,nofail
//   logs    sessname=a@b path=ip:10.0.0.1 device_path=logs      ro,frontend=loop
//
// `what` is a URI, or the words of the kernel's map_device. Words are separated by blanks; one that
// begins with '#' ends the line. Options are separated by commas:
//   ro, rw, migration      how it is opened; stronger than mode= and access_mode=
//   once                   mapped by hand it is gone after a reboot: not remembered by the daemon
//   noauto, auto           left out unless it is named
//   nofail                 not an error when it cannot be mapped
//   frontend=, hold=, policy=, max_reconnect_attempts=    as `rnbd map` and `rnbd set` take them
//   defaults, _netdev      accepted, as fstab has them

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/admin/map_request.h"
#include "daemon/admin/protocol.h"

namespace rnbd::daemon {

inline constexpr std::size_t kRnbdtabBytesMax = std::size_t{1} << 20;
inline constexpr std::size_t kRnbdtabLineMax = 4096;
inline constexpr std::size_t kRnbdtabEntriesMax = 1024;
inline constexpr std::size_t kRnbdtabNameMax = 64;

struct RnbdtabEntry {
  std::string name{};   // letters, digits and "_.:-"; unique
  MapRequest map{};     // session is empty where a URI names none: see default_session_name
  bool once = false;    // AdminRequest::once
  bool noauto = false;  // only when it is named
  bool nofail = false;  // its failure is no error
  std::string hold{};   // of the device, empty: not said. To be set once it is mapped
  std::vector<Setting> session_settings{};  // policy, max_reconnect_attempts: the same
  unsigned line = 0;                        // where it stands, from 1
};

struct Rnbdtab {
  std::vector<RnbdtabEntry> entries{};
  // Null when there is none of this name.
  const RnbdtabEntry* find(std::string_view name) const;
};

// The first thing that is wrong is a Problem (config) "file:line: what". `cpus` bounds
// nr_poll_queues.
Outcome<Rnbdtab> parse_rnbdtab(std::string_view text, const std::string& file_name, int cpus);
// Reads and parses; no such file is an empty table unless `must_exist`. Blocks.
Outcome<Rnbdtab> load_rnbdtab(const std::string& file, bool must_exist, int cpus);
// $RNBD_TAB, else /etc/rnbd/rnbdtab.
std::string default_rnbdtab_file();

}  // namespace rnbd::daemon
