#pragma once
// Between RTRS and RNBD of a server: sees every request when it is begun and when it is answered,
// and what must not be among them. Nothing is begun for a path that has begun to close (R5); CLOSE
// is answered when nothing of the device runs any more, whichever path it came on (R7).

#include <map>

#include "rtrs/server/server.h"
#include "sim/report.h"

namespace rnbd::sim_test {

class RequestWatch final : public rtrs::server::RequestHandler {
 public:
  RequestWatch(rtrs::server::RequestHandler& next, const Report& report)
      : next_(next), report_(report) {}
  void on_session_opened(rtrs::server::Session& session) override {
    next_.on_session_opened(session);
  }
  void on_session_closed(rtrs::server::Session& session) override {
    next_.on_session_closed(session);
  }
  void on_request(rtrs::server::Request& request) override;

 private:
  class Watched;
  struct Device {
    std::uint64_t session = 0;
    std::uint32_t id = 0;
    auto operator<=>(const Device&) const = default;
  };

  rtrs::server::RequestHandler& next_;
  const Report& report_;
  std::map<Device, std::uint32_t> running_;
};

}  // namespace rnbd::sim_test
