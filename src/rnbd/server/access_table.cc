#include "rnbd/server/access_table.h"

#include <cerrno>

#include "base/mutation.h"

namespace rnbd::server {

std::error_code AccessTable::acquire(const std::string& identity, AccessMode mode) {
  const std::uint32_t others = broken(Rule::r8) ? 0 : writers(identity);
  if (mode == AccessMode::rw && others != 0) return from_errno(EPERM);
  if (mode == AccessMode::migration && others >= 2) return from_errno(EPERM);
  Grants& grants = grants_[identity];
  ++(mode == AccessMode::ro ? grants.readers : grants.writers);
  return {};
}

void AccessTable::release(const std::string& identity, AccessMode mode) {
  const auto found = grants_.find(identity);
  RNBD_ASSERT(found != grants_.end());
  std::uint32_t& count = mode == AccessMode::ro ? found->second.readers : found->second.writers;
  RNBD_ASSERT(count > 0);
  --count;
  if (found->second.readers == 0 && found->second.writers == 0) grants_.erase(found);
}

std::uint32_t AccessTable::writers(const std::string& identity) const {
  const auto found = grants_.find(identity);
  return found == grants_.end() ? 0 : found->second.writers;
}

}  // namespace rnbd::server
