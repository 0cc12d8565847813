#pragma once
// The states of a client path and the moves between them, as data: the same as the kernel client's.

#include <array>
#include <cstddef>
#include <cstdint>

#include "rtrs/client/session.h"

namespace rnbd::rtrs::client {

inline constexpr std::array kPathStates{
    PathState::connecting,   PathState::connected, PathState::connecting_error,
    PathState::reconnecting, PathState::closing,   PathState::closed,
    PathState::dead};

struct PathMove {
  PathState from;
  PathState to;
};

inline constexpr std::array kPathMoves{
    PathMove{PathState::reconnecting, PathState::connecting},
    PathMove{PathState::connecting, PathState::connected},
    PathMove{PathState::connecting, PathState::connecting_error},
    PathMove{PathState::connected, PathState::reconnecting},
    PathMove{PathState::connecting_error, PathState::reconnecting},
    PathMove{PathState::closed, PathState::reconnecting},
    PathMove{PathState::connecting, PathState::closing},
    PathMove{PathState::connecting_error, PathState::closing},
    PathMove{PathState::reconnecting, PathState::closing},
    PathMove{PathState::connected, PathState::closing},
    PathMove{PathState::closing, PathState::closed},
    PathMove{PathState::closed, PathState::dead},
};

constexpr bool path_move_allowed(PathState from, PathState to) {
  for (const PathMove& move : kPathMoves) {
    if (move.from == from && move.to == to) return true;
  }
  return false;
}

}  // namespace rnbd::rtrs::client
