#pragma once
// A control message to a server of ours as a request. Whoever derives from it sets `done`.

#include "rtrs/client/session.h"

namespace rnbd::rtrs::client {

struct ControlRequest : Request {
  explicit ControlRequest(const wire::Control& what) : text(wire::encode_control(what)) {
    direction = Direction::write;
    control = true;
    message = wire::bytes_of(text);
  }
  const wire::layout::ControlMessage text;
};

}  // namespace rnbd::rtrs::client
