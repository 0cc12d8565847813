#include "rnbd/server/cache_identity.h"

namespace rnbd::server {
namespace {

// FNV-1a, and never 0.
std::uint64_t hash(const Uuid& uuid) {
  std::uint64_t value = 0xcbf29ce484222325;
  for (const std::uint8_t byte : uuid) value = (value ^ byte) * 0x100000001b3;
  return value == 0 ? 1 : value;
}

}  // namespace

std::uint64_t cache_identity(const Volume& volume, const wire::Extension& identity) {
  if (identity == wire::Extension{}) return 0;
  switch (volume.cache_life) {
    case CacheLife::host:
      return volume.device->limits().volatile_cache ? hash(identity.boot) : 0;
    case CacheLife::process:
      return hash(identity.instance);
    case CacheLife::forever:
      return 1;
  }
  return 0;
}

}  // namespace rnbd::server
