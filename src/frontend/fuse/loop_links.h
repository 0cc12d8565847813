#pragma once
// The names a volume's block device goes by: /dev/rnbd<N> and /dev/rnbd/<session>/<volume>.

#include <string>

#include "base/error.h"

namespace rnbd::fuse {

struct LoopLinks {
  std::string number_link;
  std::string name_link;
};

struct LinkPlace {
  std::string directory;         // where links are made
  std::string device_directory;  // where they lead; links within one directory are relative
};

// Makes both, or neither. N is `wanted`, else the lowest, that is free, or whose link leads to a
// loop device not in use.
Result<LoopLinks> make_links(const LinkPlace& place, unsigned loop_number,
                             const std::string& session, const std::string& volume,
                             unsigned wanted = 0);
// Removes those that still lead to this loop device, and the session's directory when it is empty.
void remove_links(const LoopLinks& links, unsigned loop_number);
// Removes every link that leads to a loop device not in use.
void remove_dead_links(const std::string& link_directory);

}  // namespace rnbd::fuse
