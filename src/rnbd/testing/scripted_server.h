#pragma once
// A server that answers as it is told: for what a well-behaved one never does.

#include "rnbd/testing/site.h"
#include "wire/rnbd.h"

namespace rnbd::testing {

struct Script {
  wire::layout::OpenResponse open{};
  int session_info_errno = 0;
  int open_errno = 0;
  bool answer_open = true;
  int io_errno = 0;
  std::vector<rtrs::server::Request*> unanswered;  // OPENs
  int opens = 0;
  std::vector<std::uint32_t> closed;
  std::vector<wire::Io> ios;

  Script() {
    wire::OpenResponse response;
    response.device_id = 0xabcd0001;
    response.nsectors = 2048;
    open = wire::encode(response);
  }
  void answer(rtrs::server::Request& request, std::span<const std::byte> bytes, int error) {
    std::copy_n(bytes.begin(), std::min(bytes.size(), request.data().size()),
                request.data().begin());
    request.respond(error);
  }
  void answer_open_of(rtrs::server::Request& request) {
    answer(request, std::as_bytes(std::span(&open, 1)), open_errno);
  }
};

class ScriptedHandler final : public rtrs::server::RequestHandler {
 public:
  explicit ScriptedHandler(Script& script) : script_(script) {}
  void on_session_opened(rtrs::server::Session&) override {}
  void on_session_closed(rtrs::server::Session& session) override { session.release(); }
  void on_request(rtrs::server::Request& request) override {
    const auto message = wire::parse_rnbd_message(request.message());
    if (!message) return request.respond(EINVAL);
    if (std::holds_alternative<wire::SessionInfo>(*message)) {
      const auto layout = wire::encode_session_info_response(2);
      return script_.answer(request, std::as_bytes(std::span(&layout, 1)),
                            script_.session_info_errno);
    }
    if (std::holds_alternative<wire::Open>(*message)) {
      ++script_.opens;
      if (!script_.answer_open) return script_.unanswered.push_back(&request);
      return script_.answer_open_of(request);
    }
    if (const auto* close = std::get_if<wire::Close>(&*message)) {
      script_.closed.push_back(close->device_id);
      return request.respond(0);
    }
    script_.ios.push_back(std::get<wire::Io>(*message));
    std::fill(request.data().begin(), request.data().end(), std::byte{0});
    request.respond(script_.io_errno);
  }

 private:
  Script& script_;
};

}  // namespace rnbd::testing
