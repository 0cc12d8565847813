#include "rtrs/client/path_state.h"

namespace rnbd::rtrs::client {

const char* path_state_name(PathState state) {
  switch (state) {
    case PathState::connecting:
      return "connecting";
    case PathState::connected:
      return "connected";
    case PathState::connecting_error:
      return "connecting_error";
    case PathState::reconnecting:
      return "reconnecting";
    case PathState::closing:
      return "closing";
    case PathState::closed:
      return "closed";
    case PathState::dead:
      return "dead";
  }
  return "unknown";
}

}  // namespace rnbd::rtrs::client
