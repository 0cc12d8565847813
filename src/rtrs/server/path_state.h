#pragma once
// The states of a server path and the moves between them, as data. No way back: a client that
// reconnects gets a new path, and only after the old one is gone.

#include <array>
#include <cstdint>

namespace rnbd::rtrs::server {

enum class PathState : std::uint8_t { connecting, connected, closing, closed };

inline constexpr std::array kPathStates{PathState::connecting, PathState::connected,
                                        PathState::closing, PathState::closed};

struct PathMove {
  PathState from;
  PathState to;
};

inline constexpr std::array kPathMoves{
    PathMove{PathState::connecting, PathState::connected},
    PathMove{PathState::connecting, PathState::closing},
    PathMove{PathState::connected, PathState::closing},
    PathMove{PathState::closing, PathState::closed},
};

constexpr bool path_move_allowed(PathState from, PathState to) {
  for (const PathMove& move : kPathMoves) {
    if (move.from == from && move.to == to) return true;
  }
  return false;
}

constexpr const char* path_state_name(PathState state) {
  switch (state) {
    case PathState::connecting:
      return "connecting";
    case PathState::connected:
      return "connected";
    case PathState::closing:
      return "closing";
    case PathState::closed:
      return "closed";
  }
  return "unknown";
}

}  // namespace rnbd::rtrs::server
