#pragma once
// A number that stays the same as long as the server cannot have lost an acknowledged write of a
// volume (safety rule R9). Our own clients keep it over a reconnect and compare.

#include "rnbd/server/volume.h"

namespace rnbd::server {

// 0: there is nothing to lose before a flush, or the server is not to be told apart.
std::uint64_t cache_identity(const Volume& volume, const wire::Extension& identity);

}  // namespace rnbd::server
