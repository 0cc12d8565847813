#pragma once
// Which path of a session is meant by a word of the administrator. Pure.

#include <span>
#include <string>
#include <string_view>

#include "daemon/admin/problem.h"
#include "rtrs/client/session.h"

namespace rnbd::daemon {

using Paths = std::span<const rtrs::client::PathInfo>;

// A path is named by its number in the session's list (1 is the first), by its shown name
// ("ip:10.0.0.9@ip:10.0.0.1", or with a comma), or by its destination ("ip:10.0.0.1", "10.0.0.1",
// "ip:10.0.0.1 port 1234").
bool names_path(const rtrs::client::PathInfo& path, std::string_view word);
bool is_path_number(std::string_view word);

// Its index. Usage: the word names several; not_found: none. Both tell the candidates.
Outcome<std::size_t> find_path(Paths paths, std::string_view word, std::string_view session);
// "1: ip:10.0.0.9@ip:10.0.0.1 port 1234, 2: …"
std::string candidates(Paths paths);

}  // namespace rnbd::daemon
