#pragma once
// The names a volume's block device goes by, whatever driver made it:
//   /dev/rnbd<N>                     N the number asked for, else the lowest free
//   /dev/rnbd/<session>/<volume>     see link_name()
// Nodes are told by their name: "loop3", "ublkb0". Touches directories and sysfs only; any thread.

#include <string>
#include <string_view>

#include "base/error.h"

namespace rnbd {

// A volume's path as one file name: '/' becomes '!', as sysfs does with device names.
std::string file_name(std::string_view volume_path);

// The same as the name of a link, which no other name shares: what '!' would be taken for, and what
// would be taken for a partition ("-part1" at the end), is written as udev writes it ("\x21",
// "\x2dpart1").
std::string link_name(std::string_view name);
// Where "-part1" and the like begins at the end of a name; npos.
std::size_t partition_suffix(std::string_view name);
// "\x2f": a byte in a link's name as udev has it.
std::string udev_escape(char byte);

struct DeviceLinks {
  std::string number_link;
  std::string name_link;
};

struct LinkPlace {
  std::string directory;         // where links are made
  std::string device_directory;  // where they lead; links within one directory are relative
};

// True while the node is a disk: a loop device bound to a file, any other block device that is
// there.
bool node_in_use(const std::string& node);

// Makes both, or neither. A link that leads to a node not in use, or to this one, is replaced.
Result<DeviceLinks> make_links(const LinkPlace& place, const std::string& node,
                               const std::string& session, const std::string& volume,
                               unsigned wanted = 0);
// Removes those that still lead to this node, and the session's directory when it is empty.
void remove_links(const DeviceLinks& links, const std::string& node);
// Removes every link that leads to a node not in use.
void remove_dead_links(const std::string& link_directory);

}  // namespace rnbd
