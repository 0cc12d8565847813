#pragma once
// Who may open what: the access modes granted per volume, over all sessions. Any number may read;
// one may write; a second writer is let in with `migration` only, for the moment a virtual machine
// moves. A grant stands until everything its owner had running is over (the caller's duty), so that
// the next writer finds nothing of the last one (safety rule R8). One thread.

#include <cstdint>
#include <string>
#include <system_error>
#include <unordered_map>

#include "rnbd/server/exports.h"

namespace rnbd::server {

class AccessTable {
 public:
  // EPERM when the mode conflicts with what is granted already.
  std::error_code acquire(const std::string& identity, AccessMode mode);
  void release(const std::string& identity, AccessMode mode);
  std::uint32_t writers(const std::string& identity) const;
  std::size_t size() const { return grants_.size(); }

 private:
  struct Grants {
    std::uint32_t readers = 0;
    std::uint32_t writers = 0;  // rw and migration
  };
  std::unordered_map<std::string, Grants> grants_;
};

}  // namespace rnbd::server
